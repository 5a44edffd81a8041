//! What a worker may ask of its host: a port, and what this host offers: the plugin's own config, and nothing else.
//!
//! **Invariant:** a worker gets nothing of a company that its call is not for.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::registry::Registry;
use super::rpc::{RpcError, code};

/// A worker's request.
#[derive(Debug, Clone, PartialEq)]
pub struct HostRequest {
    /// Whose worker asks.
    pub plugin_key: String,
    /// What it asks, such as `state.get`.
    pub method: String,
    /// With what.
    pub params: Value,
    /// The company of the call that it asks within; `None` where it named none, or one that is over.
    pub company_id: Option<String>,
}

/// Serves workers' requests. Every request is answered, with an error where it is not offered.
#[async_trait]
pub trait HostServices: Send + Sync {
    /// The answer.
    async fn serve(&self, request: HostRequest) -> Result<Value, RpcError>;
}

/// What this host offers.
pub struct PluginServices {
    registry: Arc<Registry>,
}

impl PluginServices {
    /// Answers from this registry.
    #[must_use]
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }

    /// The config that the plugin was installed with: the same for every company, so a worker may ask for it outside
    /// of any call. It must not ask in the name of a company that it does not work for.
    fn config(&self, request: &HostRequest) -> Result<Value, RpcError> {
        let asked = request.params["companyId"].as_str().filter(|company| !company.is_empty());
        if let Some(asked) = asked.filter(|asked| request.company_id.as_deref() != Some(asked)) {
            let sentence = match &request.company_id {
                Some(company) => format!("The call is for company {company}, not for {asked}."),
                None => format!("No call for company {asked} is under way; leave \"companyId\" out."),
            };
            return Err(RpcError::new(code::INVOCATION_SCOPE_DENIED, sentence));
        }
        match self.registry.get(&request.plugin_key) {
            Ok(Some(plugin)) => Ok(plugin.config.clone()),
            Ok(None) => Err(RpcError::new(code::CAPABILITY_DENIED, "The plugin is not installed any more.")),
            Err(error) => Err(RpcError::new(code::INTERNAL, error.to_string())),
        }
    }
}

#[async_trait]
impl HostServices for PluginServices {
    async fn serve(&self, request: HostRequest) -> Result<Value, RpcError> {
        match request.method.as_str() {
            "config.get" => self.config(&request),
            method => Err(RpcError::new(code::UNKNOWN_METHOD, format!("This host does not offer \"{method}\"."))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use lease_events::seam::SystemIds;
    use serde_json::json;

    use super::*;
    use crate::workers::manifest::Manifest;
    use crate::workers::registry::{NewPlugin, StartCommand};

    #[tokio::test]
    async fn a_worker_gets_its_config_for_the_company_that_it_works_for_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Arc::new(Registry::new(folder.path().join("plugins.json"), Arc::new(SystemIds)));
        let manifest = json!({
            "id": "p", "apiVersion": 1, "version": "1.0.0", "displayName": "P", "capabilities": [],
            "entrypoints": { "worker": "w.mjs" },
        });
        let manifest = Manifest::parse(manifest).unwrap();
        let start = StartCommand::node(&manifest, Path::new("/"));
        let config = json!({ "endpoint": "https://boxes.example" });
        registry.install(NewPlugin { manifest, start, grants: None, config: Some(config.clone()) }).unwrap();
        let services = PluginServices::new(registry);
        let ask = |method: &str, params: Value, company: Option<&str>| HostRequest {
            plugin_key: "p".to_owned(),
            method: method.to_owned(),
            params,
            company_id: company.map(str::to_owned),
        };

        for (params, company) in
            [(json!({}), None), (json!({}), Some("c")), (json!({ "companyId": "c" }), Some("c")), (Value::Null, None)]
        {
            assert_eq!(services.serve(ask("config.get", params, company)).await, Ok(config.clone()));
        }
        for company in [Some("d"), None] {
            let denied = services.serve(ask("config.get", json!({ "companyId": "c" }), company)).await.unwrap_err();
            assert_eq!(denied.code, code::INVOCATION_SCOPE_DENIED);
        }
        for method in ["secrets.resolve", "state.get", "config.set"] {
            let unknown = services.serve(ask(method, json!({}), Some("c"))).await.unwrap_err();
            assert_eq!(unknown, RpcError::new(code::UNKNOWN_METHOD, format!("This host does not offer \"{method}\".")));
        }
    }
}
