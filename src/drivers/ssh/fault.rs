//! What `ssh` says when it does not get in, as faults with stable codes. Pure.

use lease_events::failure::Fault;

use super::config::Config;
use crate::drivers::Outcome;

/// Why there is no connection: nothing has happened on the far side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NoConnection {
    pub(super) fault: Fault,
    /// Whether a retry of the same would meet the same: the far side, or its identity, must change first.
    pub(super) refused: bool,
}

impl NoConnection {
    pub(super) fn outcome<T>(self) -> Outcome<T> {
        if self.refused { Outcome::Refused(self.fault) } else { Outcome::NotDone(self.fault) }
    }
}

impl From<Fault> for NoConnection {
    fn from(fault: Fault) -> Self {
        Self { fault, refused: false }
    }
}

/// Reads the last words of an `ssh` that ended before the far side answered.
pub(super) fn read(config: &Config, words: &str) -> NoConnection {
    let account = config.account();
    let has = |part: &str| words.contains(part);
    // The order matters: a changed key also ends in "Host key verification failed."
    let (code, refused, sentence) = if has("IDENTIFICATION HAS CHANGED") || has("REVOKED HOST KEY") {
        let why = "The host key of HOST is not the one in knownHosts; somebody may be between. If the key was changed \
                   on purpose, put the new one into knownHosts.";
        ("host-key-mismatch", true, why.to_owned())
    } else if has("Host key verification failed") {
        let why = "The host key of HOST is not in knownHosts; put the line there that ssh-keyscan prints for it, once \
                   it was compared with the host's own, or set strictHostKeyChecking to false.";
        ("host-key-unknown", true, why.to_owned())
    } else if has("Permission denied") || has("Too many authentication failures") {
        let why = "HOST refused the private key for USER; add its public key to the user's authorized_keys there.";
        ("key-refused", true, why.to_owned())
    } else if has("Could not resolve hostname") {
        ("host-not-found", false, "The name of HOST cannot be resolved; check host, and this machine's DNS.".to_owned())
    } else if has("Connection refused") {
        ("connection-refused", false, "HOST refused the connection; check port, and that sshd runs there.".to_owned())
    } else if has("timed out") {
        ("connect-timeout", false, timed_out(config))
    } else if has("No route to host") || has("Network is unreachable") {
        ("host-unreachable", false, "HOST cannot be reached from this machine; check host and the network.".to_owned())
    } else if [
        "Connection closed",
        "Connection reset",
        "Broken pipe",
        "closed by remote host",
        "exchange_identification",
    ]
    .iter()
    .any(|part| has(part))
    {
        let why = "HOST closed the connection before the login was done; look into the log of its sshd.";
        ("connection-lost", false, why.to_owned())
    } else {
        // ssh's own words hold no secret: it never saw the key, and its environment is empty.
        let last = words.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it said nothing");
        ("login-failed", false, format!("There is no login as USER at HOST: {last}."))
    };
    let host = config.place();
    let sentence = sentence.replace("USER at HOST", &account).replace("HOST", &host).replace("USER", &config.username);
    NoConnection { fault: Fault::new(code, sentence), refused }
}

/// The far side did not answer in time.
pub(super) fn timeout(config: &Config) -> NoConnection {
    Fault::new("connect-timeout", timed_out(config).replace("HOST", &config.place())).into()
}

fn timed_out(config: &Config) -> String {
    let limit = config.connect_timeout.as_millis();
    format!("HOST did not answer within {limit} ms; check host and port, or raise connectTimeoutMs.")
}

/// The connection went away while something was under way.
pub(super) fn lost(config: &Config) -> Fault {
    let sentence = format!("The connection to {} was lost before the far side answered.", config.account());
    Fault::new("connection-lost", sentence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_of_sshs_words_has_its_code() {
        let config = Config::parse(&json!({
            "host": "h", "username": "u", "remoteWorkspacePath": "/w",
            "privateKeySecretRef": { "type": "secret_ref", "secretId": "0198c0de-0000-7000-8000-000000000001" },
        }))
        .unwrap();
        for (words, code) in [
            (
                "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
                "host-key-mismatch",
            ),
            ("No ED25519 host key is known for h\nHost key verification failed.", "host-key-unknown"),
            ("u@h: Permission denied (publickey).", "key-refused"),
            ("ssh: Could not resolve hostname h: Name or service not known", "host-not-found"),
            ("ssh: connect to host h port 22: Connection refused", "connection-refused"),
            ("ssh: connect to host h port 22: Connection timed out", "connect-timeout"),
            ("ssh: connect to host h port 22: No route to host", "host-unreachable"),
            ("kex_exchange_identification: read: Connection reset by peer", "connection-lost"),
            ("This account is currently not available.", "login-failed"),
        ] {
            let fault = read(&config, words).fault;
            assert_eq!(fault.code, code, "{words}");
            assert!(fault.message.contains("h:22") && !fault.message.contains("HOST"), "{}", fault.message);
        }
    }
}
