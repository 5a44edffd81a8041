//! Plugins: install, list, get, enable, disable, remove. Who may is decision 0008.

use std::path::PathBuf;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Face;
use super::extract::{Body, PathId};
use super::headers::Issuer;
use super::openapi::{ActorHeader, CommandRefusals, ReadRefusals};
use super::problem::Answer;
use super::wire::plugin::{InstallPlugin, InstalledPlugin, Plugin, PluginList};
use crate::commands::plugin;

pub(super) fn routes() -> OpenApiRouter<Face> {
    OpenApiRouter::new()
        .routes(routes!(install_plugin, list_plugins))
        .routes(routes!(get_plugin))
        .routes(routes!(enable_plugin))
        .routes(routes!(disable_plugin))
        .routes(routes!(remove_plugin))
}

/// Install a plugin
///
/// Or upgrade the one with its key, which keeps its id, whether it is enabled, and its grants and config where none are
/// given. Its worker is a program that runs on the ledger's machine, in the ledger's name.
#[utoipa::path(
    post, path = "/v1/plugins", operation_id = "installPlugin", tag = "plugins",
    params(ActorHeader), request_body = InstallPlugin,
    responses(
        (status = 200, description = "Upgraded.", body = InstalledPlugin),
        (status = 201, description = "Installed.", body = InstalledPlugin),
        CommandRefusals,
    )
)]
async fn install_plugin(
    State(face): State<Face>,
    Issuer(caller): Issuer,
    Body(body): Body<InstallPlugin>,
) -> Answer<(StatusCode, Json<InstalledPlugin>)> {
    let request = plugin::InstallPlugin {
        manifest: Value::Object(body.manifest),
        folder: PathBuf::from(body.folder),
        command: body.command.map(|command| (command.program, command.args)),
        grants: body.grants,
        config: body.config,
    };
    let installed: InstalledPlugin = face.ledger.install_plugin(caller, request).await?.into();
    let status = if installed.replaced_version.is_some() { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(installed)))
}

/// List plugins
///
/// All of them, by key: there are few.
#[utoipa::path(
    get, path = "/v1/plugins", operation_id = "listPlugins", tag = "plugins",
    responses((status = 200, description = "Every plugin that is installed.", body = PluginList), ReadRefusals)
)]
async fn list_plugins(State(face): State<Face>) -> Answer<Json<PluginList>> {
    let plugins = face.ledger.plugins()?;
    Ok(Json(PluginList { plugins: plugins.into_iter().map(Plugin::from).collect() }))
}

/// Get a plugin
#[utoipa::path(
    get, path = "/v1/plugins/{pluginKey}", operation_id = "getPlugin", tag = "plugins",
    params(("pluginKey" = String, Path, description = "The plugin's key.")),
    responses((status = 200, description = "As it is now.", body = Plugin), ReadRefusals)
)]
async fn get_plugin(State(face): State<Face>, PathId(plugin_key): PathId<String>) -> Answer<Json<Plugin>> {
    Ok(Json(face.ledger.plugin(&plugin_key)?.into()))
}

/// Enable a plugin
#[utoipa::path(
    post, path = "/v1/plugins/{pluginKey}/enable", operation_id = "enablePlugin", tag = "plugins",
    params(("pluginKey" = String, Path, description = "The plugin's key."), ActorHeader),
    responses((status = 200, description = "It may be used.", body = Plugin), CommandRefusals)
)]
async fn enable_plugin(
    State(face): State<Face>,
    PathId(plugin_key): PathId<String>,
    Issuer(caller): Issuer,
) -> Answer<Json<Plugin>> {
    Ok(Json(face.ledger.set_plugin_enabled(caller, plugin_key, true).await?.into()))
}

/// Disable a plugin
///
/// It gives nothing new, and its worker is stopped, with the calls that it is at. What it gave is still released and
/// destroyed through it.
#[utoipa::path(
    post, path = "/v1/plugins/{pluginKey}/disable", operation_id = "disablePlugin", tag = "plugins",
    params(("pluginKey" = String, Path, description = "The plugin's key."), ActorHeader),
    responses((status = 200, description = "It gives nothing any more.", body = Plugin), CommandRefusals)
)]
async fn disable_plugin(
    State(face): State<Face>,
    PathId(plugin_key): PathId<String>,
    Issuer(caller): Issuer,
) -> Answer<Json<Plugin>> {
    Ok(Json(face.ledger.set_plugin_enabled(caller, plugin_key, false).await?.into()))
}

/// Remove a plugin
///
/// Refused while a lease needs it that is open, or may still hold something there: the sentence names the leases.
#[utoipa::path(
    post, path = "/v1/plugins/{pluginKey}/remove", operation_id = "removePlugin", tag = "plugins",
    params(("pluginKey" = String, Path, description = "The plugin's key."), ActorHeader),
    responses((status = 200, description = "As it was.", body = Plugin), CommandRefusals)
)]
async fn remove_plugin(
    State(face): State<Face>,
    PathId(plugin_key): PathId<String>,
    Issuer(caller): Issuer,
) -> Answer<Json<Plugin>> {
    Ok(Json(face.ledger.remove_plugin(caller, plugin_key).await?.into()))
}
