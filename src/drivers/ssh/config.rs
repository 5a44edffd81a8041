//! What an `ssh` environment's config holds, checked key by key. Pure.
//!
//! **Invariants:** no value of it can be taken for an option by a program that it is given to; a private key is only
//! ever a reference, and no sentence repeats what stands where a key should not.

use std::time::Duration;

use serde_json::{Value, json};

use crate::drivers::InvalidConfig;
use crate::drivers::config::{Fields, object};
use crate::drivers::process::TIMEOUT_DEFAULT;
use crate::drivers::secrets::SecretRef;

/// The port of SSH, where the config does not say.
const PORT_DEFAULT: u64 = 22;
/// Longest time that connecting and logging in may take, where the config does not say.
const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(15);
/// Most bytes of output, where the config does not say: 64 MiB.
const OUTPUT_BYTES_DEFAULT: u64 = 64 * 1_024 * 1_024;
/// Longest host name in the DNS, in bytes.
const HOST_BYTES_MAX: usize = 253;
/// Longest user name, in bytes; far above what any system has.
const USERNAME_BYTES_MAX: usize = 256;

/// How a reference to a secret is spelled, for sentences.
const REFERENCE_FORM: &str = r#"{"type":"secret_ref","secretId":UUID,"version":"latest"}"#;

/// A config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) username: String,
    pub(super) remote_workspace_path: String,
    pub(super) private_key: SecretRef,
    /// Lines as in a `known_hosts` file.
    pub(super) known_hosts: Option<String>,
    pub(super) strict_host_key_checking: bool,
    /// Longest time until the far side's shell answers.
    pub(super) connect_timeout: Duration,
    /// Longest time that a command may run.
    pub(super) timeout: Duration,
    pub(super) output_bytes_max: u64,
}

impl Config {
    pub(super) fn parse(config: &Value) -> Result<Self, InvalidConfig> {
        let mut fields = Fields::new("driver \"ssh\"", object(config)?);
        let host = host(&mut fields);
        let port = fields.integer("port", 1..=u64::from(u16::MAX)).unwrap_or(PORT_DEFAULT);
        let username = username(&mut fields);
        let remote_workspace_path = remote_workspace_path(&mut fields);
        let private_key = private_key(&mut fields);
        let known_hosts = fields.text("knownHosts").map(str::to_owned);
        let strict_host_key_checking = fields.flag("strictHostKeyChecking", true);
        let connect_timeout = fields.integer("connectTimeoutMs", 1..=600_000).map(Duration::from_millis);
        let timeout = fields.integer("timeoutMs", 1..=86_400_000).map_or(TIMEOUT_DEFAULT, Duration::from_millis);
        let output_bytes_max = fields.integer("outputBytesMax", 1..=u64::MAX).unwrap_or(OUTPUT_BYTES_DEFAULT);
        // Read only where it is there, so that it is not among the keys that a fault lists.
        if config.get("privateKey").is_some() {
            let _ = fields.value("privateKey");
            fields.fault(format!(
                "\"privateKey\" is not taken in the clear: store the key as a secret, and give \"privateKeySecretRef\": \
                 {REFERENCE_FORM}."
            ));
        }
        fields.finish()?;
        let missing = "a key that is missing or wrong is a fault";
        Ok(Self {
            host: host.expect(missing),
            port: u16::try_from(port).expect("its range is a port's"),
            username: username.expect(missing),
            remote_workspace_path: remote_workspace_path.expect(missing),
            private_key: private_key.expect(missing),
            known_hosts,
            strict_host_key_checking,
            connect_timeout: connect_timeout.unwrap_or(CONNECT_TIMEOUT_DEFAULT),
            timeout,
            output_bytes_max,
        })
    }

    /// The same with every default filled in, as an environment keeps it.
    pub(super) fn normal_form(&self) -> Value {
        let mut config = json!({
            "host": self.host,
            "port": self.port,
            "username": self.username,
            "remoteWorkspacePath": self.remote_workspace_path,
            "privateKeySecretRef": self.private_key,
            "strictHostKeyChecking": self.strict_host_key_checking,
            "connectTimeoutMs": millis(self.connect_timeout),
            "timeoutMs": millis(self.timeout),
            "outputBytesMax": self.output_bytes_max,
        });
        if let Some(known_hosts) = &self.known_hosts {
            config["knownHosts"] = known_hosts.as_str().into();
        }
        config
    }

    /// The account, as `USER@HOST:PORT`.
    pub(super) fn account(&self) -> String {
        format!("{}@{}", self.username, self.place())
    }

    /// The host, as `HOST:PORT`; the colons of an IPv6 address stand in brackets.
    pub(super) fn place(&self) -> String {
        let (host, port) = (&self.host, self.port);
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// The name of a directory of this account: `ssh://USER@HOST:PORT/PATH`.
    pub(super) fn provider_lease_id(&self, remote_cwd: &str) -> String {
        format!("ssh://{}/{}", self.account(), remote_cwd.trim_start_matches('/'))
    }
}

fn host(fields: &mut Fields<'_>) -> Option<String> {
    let fits = |text: &str| {
        text.len() <= HOST_BYTES_MAX && text.chars().all(|one| one.is_ascii_alphanumeric() || ".-_:%".contains(one))
    };
    let wanted = "a host name or an address, such as build.example.org, 192.0.2.1 or 2001:db8::1";
    word(fields, "host", wanted, fits)
}

fn username(fields: &mut Fields<'_>) -> Option<String> {
    let fits = |text: &str| {
        text.len() <= USERNAME_BYTES_MAX && text.chars().all(|one| one.is_ascii_alphanumeric() || ".-_+@".contains(one))
    };
    word(fields, "username", "letters, digits and . - _ + @", fits)
}

/// A word that goes to a command line.
fn word(fields: &mut Fields<'_>, key: &'static str, wanted: &str, fits: impl Fn(&str) -> bool) -> Option<String> {
    let Some(value) = fields.value(key) else {
        fields.fault(format!("\"{key}\" is missing; it must be {wanted}."));
        return None;
    };
    let word = value.as_str().filter(|text| !text.is_empty() && !text.starts_with('-') && fits(text));
    if word.is_none() {
        fields.fault(format!("\"{key}\" is {value}; it must be {wanted}, and must not begin with \"-\"."));
    }
    word.map(str::to_owned)
}

fn remote_workspace_path(fields: &mut Fields<'_>) -> Option<String> {
    let key = "remoteWorkspacePath";
    let Some(value) = fields.value(key) else {
        fields.fault(format!("\"{key}\" is missing; it must be an absolute path, such as /srv/work."));
        return None;
    };
    let path = value.as_str().filter(|text| text.starts_with('/') && !text.chars().any(char::is_control));
    if path.is_none() {
        let sentence = "it must be an absolute path without control characters, such as /srv/work";
        fields.fault(format!("\"{key}\" is {value}; {sentence}."));
    }
    path.map(str::to_owned)
}

fn private_key(fields: &mut Fields<'_>) -> Option<SecretRef> {
    let key = "privateKeySecretRef";
    let reference = fields.value(key).map(|value| serde_json::from_value(value.clone()));
    match reference {
        Some(Ok(reference)) => return Some(reference),
        // Neither the value nor the reader's words are repeated: it may be the key itself.
        Some(Err(_)) => fields.fault(format!("\"{key}\" is no reference to a secret; it must be {REFERENCE_FORM}.")),
        None => {
            fields.fault(format!("\"{key}\" is missing; it must be a reference to a secret: {REFERENCE_FORM}."));
        }
    }
    None
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Value {
        json!({
            "host": "build.example.org",
            "username": "agent",
            "remoteWorkspacePath": "/srv/work",
            "privateKeySecretRef": { "type": "secret_ref", "secretId": "0198c0de-0000-7000-8000-000000000001" },
        })
    }

    fn fault(key: &str, value: impl Into<Value>) -> String {
        let mut config = config();
        config[key] = value.into();
        Config::parse(&config).unwrap_err().to_string()
    }

    #[test]
    fn what_is_absent_gets_its_default() {
        let parsed = Config::parse(&config()).unwrap();
        assert_eq!((parsed.port, parsed.strict_host_key_checking), (22, true));
        assert_eq!(parsed.provider_lease_id("/srv/work"), "ssh://agent@build.example.org:22/srv/work");
        assert_eq!(Config::parse(&parsed.normal_form()).unwrap(), parsed);
        assert_eq!(Config { host: "::1".to_owned(), ..parsed }.account(), "agent@[::1]:22");
    }

    #[test]
    fn nothing_can_pass_for_an_option_or_a_second_word() {
        for host in ["-oProxyCommand=x", "", "a b", "a;b", "a\nb", "user@host", "ssh://a"] {
            assert!(fault("host", host).contains("it must be a host name or an address"), "{host}");
        }
        for username in ["-l", "", "a b", "$(a)", "a`b"] {
            assert!(fault("username", username).contains("it must be letters"), "{username}");
        }
        for path in ["relative", "", "/a\nb", "/a\0b"] {
            assert!(fault("remoteWorkspacePath", path).contains("it must be an absolute path"), "{path}");
        }
        for port in [0, 65_536] {
            assert!(fault("port", port).contains("from 1 to 65535"));
        }
        assert!(Config::parse(&json!({})).unwrap_err().faults.len() == 4);
    }

    #[test]
    fn a_key_in_the_clear_is_refused_and_not_repeated() {
        for key in ["privateKey", "privateKeySecretRef"] {
            let sentence = fault(key, "CANARY");
            assert!(sentence.contains("\"type\":\"secret_ref\"") && !sentence.contains("CANARY"), "{sentence}");
        }
    }
}
