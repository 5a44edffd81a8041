//! `secret …`: names under which values are kept. A value comes in through standard input alone, where no process list
//! and no shell history shows it, and is never printed.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use lease_events::id::SecretId;
use lease_events::secret::SecretStatus;
use secrecy::zeroize::Zeroize;

use super::App;
use super::client::{Answer, Call, items, read};
use super::duration::absolute;
use super::exit::{CliError, Exit};
use super::render::{json, line, or_nothing, pairs, table};
use crate::http::wire::secret::{
    Plaintext, RekeySecrets, RekeyedSecrets, RemoveSecret, RotateSecret, Secret, SecretQuery, SecretScope, SetSecret,
};

/// How many secrets `list` shows at most, unless it is told otherwise.
const LIST_DEFAULT: usize = 100;
/// Most bytes that are read of standard input: more than the ledger takes, so that it says what it does take.
const VALUE_BYTES_MAX: u64 = 128 * 1024;

/// `secret`.
#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Set a secret: create it, or give it a new version. The value is read from standard input
    Set(SetArgs),
    /// List secrets, newest first; never their values
    List(ListArgs),
    /// Show one secret and its versions; never their values
    Show(Named),
    /// Give a secret that is there a new version. The value is read from standard input
    Rotate(RotateArgs),
    /// Remove a secret: it is read no more, and what the ledger kept of it is deleted
    Remove(RemoveArgs),
    /// Seal all secrets anew under another key
    Rekey(RekeyArgs),
}

/// A secret, however it is called.
#[derive(Debug, Args)]
pub struct Named {
    /// Its name or id
    #[arg(value_name = "NAME|ID")]
    secret: String,
}

/// Where the value is, if not on standard input.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct SourceArgs {
    /// The value stays in a variable of the ledger's process; see docs/secrets.md
    #[arg(long, value_name = "NAME")]
    variable: Option<String>,
    /// The value stays in a file below the company's folder; see docs/secrets.md
    #[arg(long, value_name = "PATH")]
    file: Option<String>,
}

/// `secret set`.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// Its name, unique in the company
    name: String,
    #[command(flatten)]
    source: SourceArgs,
}

/// `secret list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Those that were removed as well
    #[arg(long)]
    all: bool,
    /// Most secrets to show
    #[arg(long, value_name = "N", default_value_t = LIST_DEFAULT)]
    limit: usize,
}

/// `secret rotate`.
#[derive(Debug, Args)]
pub struct RotateArgs {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    source: SourceArgs,
}

/// `secret remove`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    #[command(flatten)]
    named: Named,
    /// Why, in your own words; it goes on record
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

/// `secret rekey`.
#[derive(Debug, Args)]
pub struct RekeyArgs {
    /// The file of the new key: 32 bytes in base64, readable by its owner only
    #[arg(long, value_name = "FILE")]
    new_key_file: PathBuf,
}

/// Runs it.
pub async fn secret(app: &App, command: SecretCommand) -> Result<u8, CliError> {
    match command {
        SecretCommand::Set(args) => {
            let SourceArgs { variable, file } = args.source;
            let value = value(variable.is_some() || file.is_some()).await?;
            let body = SetSecret { company_id: app.company, name: args.name, value, variable, file };
            show(app, &Call::post("/v1/secrets", &body).send(&app.transport).await?)?;
        }
        SecretCommand::List(args) => list(app, &args).await?,
        SecretCommand::Show(named) => show(app, &get(app, &named).await?)?,
        SecretCommand::Rotate(args) => {
            let id = resolve(app, &args.named).await?.id;
            let SourceArgs { variable, file } = args.source;
            let value = value(variable.is_some() || file.is_some()).await?;
            let body = RotateSecret { company_id: app.company, value, variable, file };
            let call = Call::post(format!("/v1/secrets/{id}/rotate"), &body);
            show(app, &call.send(&app.transport).await?)?;
        }
        SecretCommand::Remove(args) => {
            let id = resolve(app, &args.named).await?.id;
            let body = RemoveSecret { company_id: app.company, note: args.note };
            let call = Call::post(format!("/v1/secrets/{id}/remove"), &body);
            show(app, &call.send(&app.transport).await?)?;
        }
        SecretCommand::Rekey(args) => rekey(app, &args).await?,
    }
    Ok(Exit::Ok as u8)
}

/// What standard input holds, unless the value is elsewhere. A single line loses the end of its line: that is the
/// terminal's, not the token's. Several lines are kept as they are: a key file ends with one.
async fn value(elsewhere: bool) -> Result<Option<Plaintext>, CliError> {
    if elsewhere {
        return Ok(None);
    }
    if std::io::stdin().is_terminal() {
        let sentence = "Give the value on standard input, where nothing shows it: `… < FILE`, or `pass show NAME | …`.";
        return Err(CliError::Usage(sentence.to_owned()));
    }
    let read = tokio::task::spawn_blocking(|| {
        let mut bytes = Vec::with_capacity(usize::try_from(VALUE_BYTES_MAX).unwrap_or_default());
        std::io::stdin().lock().take(VALUE_BYTES_MAX).read_to_end(&mut bytes).map(|_| bytes)
    });
    let unreadable = |cause: String| CliError::Usage(format!("Standard input cannot be read ({cause})."));
    let bytes = read.await.map_err(|error| unreadable(error.to_string()))?;
    match String::from_utf8(bytes.map_err(|error| unreadable(error.to_string()))?) {
        Ok(mut value) => {
            let line = value.trim_end_matches('\n').trim_end_matches('\r').len();
            if !value[..line].contains('\n') {
                value.truncate(line);
            }
            Ok(Some(Plaintext(value.into())))
        }
        Err(error) => {
            error.into_bytes().zeroize();
            Err(CliError::Usage("The value is not UTF-8; encode it, in base64 for example.".to_owned()))
        }
    }
}

/// The secret of this name or id. A name stands for the secret that is there, or else for the one removed last.
async fn resolve(app: &App, named: &Named) -> Result<Secret, CliError> {
    get(app, named).await?.parse()
}

async fn get(app: &App, named: &Named) -> Result<Answer, CliError> {
    let id = match named.secret.parse::<SecretId>() {
        Ok(id) => id,
        Err(_) => by_name(app, &named.secret).await?,
    };
    let scope = SecretScope { company_id: app.company };
    Call::get(format!("/v1/secrets/{id}")).query(&scope).send(&app.transport).await
}

async fn by_name(app: &App, name: &str) -> Result<SecretId, CliError> {
    let query = SecretQuery { company_id: Some(app.company), name: Some(name.to_owned()), ..SecretQuery::default() };
    let found = items(&app.transport, &Call::get("/v1/secrets").query(&query), "secrets", 1).await?;
    let missing = || {
        CliError::NotFound(format!(
            "There is no secret \"{name}\" in company {}; `lease-ledger secret list` shows those that there are.",
            app.company
        ))
    };
    let newest: Secret = read("the list of secrets", found.first().ok_or_else(missing)?)?;
    Ok(newest.id)
}

async fn list(app: &App, args: &ListArgs) -> Result<(), CliError> {
    let status = (!args.all).then_some(SecretStatus::Active);
    let query = SecretQuery { company_id: Some(app.company), status, ..SecretQuery::default() };
    let found = items(&app.transport, &Call::get("/v1/secrets").query(&query), "secrets", args.limit).await?;
    if app.json {
        return found.iter().try_for_each(json);
    }
    let secrets: Vec<Secret> = found.iter().map(|raw| read("the list of secrets", raw)).collect::<Result<_, _>>()?;
    let rows = secrets.into_iter().map(|secret| {
        let latest = secret.versions.last();
        [
            secret.name,
            secret.status.as_str().to_owned(),
            or_nothing(latest.map(|latest| latest.provider.as_str())),
            or_nothing(latest.map(|latest| latest.version)),
            secret.reads.to_string(),
            absolute(secret.created_at.0),
            secret.id.to_string(),
        ]
    });
    line(&table(["NAME", "STATUS", "PROVIDER", "VERSION", "READS", "CREATED", "ID"], rows))
}

fn show(app: &App, answer: &Answer) -> Result<(), CliError> {
    if app.json {
        return line(answer.text()?);
    }
    let secret: Secret = answer.parse()?;
    let versions = secret.versions.iter().map(|version| {
        let (provider, added) = (version.provider.as_str(), absolute(version.added_at.0));
        ("version", Some(format!("{} ({provider} {}), {added}", version.version, version.locator)))
    });
    let reference = format!("{{\"type\":\"secret_ref\",\"secretId\":\"{}\",\"version\":\"latest\"}}", secret.id);
    let rows = [
        ("secret", Some(secret.id.to_string())),
        ("name", Some(secret.name.clone())),
        ("status", Some(secret.status.as_str().to_owned())),
        ("reference", (secret.status == SecretStatus::Active).then_some(reference)),
        ("created", Some(absolute(secret.created_at.0))),
        ("removed", secret.removed_at.map(|at| absolute(at.0))),
        ("last read", secret.last_read_at.map(|at| absolute(at.0))),
    ];
    line(&pairs(rows.into_iter().chain(versions)))
}

async fn rekey(app: &App, args: &RekeyArgs) -> Result<(), CliError> {
    // The server may stand in another folder.
    let path = std::path::absolute(&args.new_key_file)
        .map_err(|error| CliError::Usage(format!("{} cannot be found ({error}).", args.new_key_file.display())))?;
    let Some(new_key_file) = path.to_str().map(str::to_owned) else {
        return Err(CliError::Usage(format!("The path {} is not UTF-8; rename the file.", path.display())));
    };
    let answer = Call::post("/v1/secrets/rekey", &RekeySecrets { new_key_file }).send(&app.transport).await?;
    if app.json {
        return line(answer.text()?);
    }
    let RekeyedSecrets { versions } = answer.parse()?;
    line(&format!(
        "Sealed {versions} versions with the key in {}; give that file in LEASE_LEDGER_SECRET_KEY_FILE from now on.",
        path.display()
    ))
}
