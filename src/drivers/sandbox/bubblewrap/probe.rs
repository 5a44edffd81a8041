//! Looks whether bubblewrap would work here, and says what to install or change where it would not.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::store::Store;
use super::{BubblewrapProvider, Programs};
use crate::drivers::{Diagnostic, ProbeReport, Severity};

/// First version with `--disable-userns`.
const VERSION_MIN: (u32, u32) = (0, 8);
/// Where programs are looked for after the folders in `PATH`.
const FOLDERS: [&str; 4] = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin"];

/// The whole report.
pub(super) fn probe(store: &Store) -> ProbeReport {
    let mut diagnostics = Vec::new();
    match Programs::find() {
        Err(missing) => diagnostics.push(error("program-missing", missing)),
        Ok(programs) => diagnostics.extend(check_bwrap(&programs.bwrap)),
    }
    if let Err(failed) = store.check_root() {
        let sentence = format!("The sandboxes' folder cannot be written to ({failed}); give this user the right to.");
        diagnostics.push(error("root-not-writable", sentence));
    }
    let ok = !diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
    let summary = if ok { "Bubblewrap works here." } else { "Bubblewrap does not work here." };
    ProbeReport { ok, summary: summary.to_owned(), diagnostics }
}

fn check_bwrap(bwrap: &Path) -> Vec<Diagnostic> {
    let Some(version) = version(bwrap) else {
        return vec![error(
            "version-unknown",
            format!("\"{} --version\" gave no version; install bubblewrap 0.8 or later.", bwrap.display()),
        )];
    };
    let told = format!("bubblewrap {}.{} at {}.", version.0, version.1, bwrap.display());
    if version < VERSION_MIN {
        return vec![error("version-too-old", format!("There is {told} Install 0.8 or later."))];
    }
    let mut diagnostics =
        vec![Diagnostic { severity: Severity::Info, message: format!("There is {told}"), code: None }];
    diagnostics.extend(namespace_fault(bwrap));
    diagnostics
}

fn version(bwrap: &Path) -> Option<(u32, u32)> {
    let output = Command::new(bwrap).arg("--version").env_clear().output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut numbers = text.trim().strip_prefix("bubblewrap ")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Makes a sandbox around nothing.
fn namespace_fault(bwrap: &Path) -> Option<Diagnostic> {
    let options = ["--unshare-all", "--unshare-user", "--disable-userns", "--ro-bind", "/", "/", "--", "true"];
    let run = Command::new(bwrap).args(options).env_clear().env("PATH", FOLDERS.join(":")).output();
    let said = match run {
        Ok(output) if output.status.success() => return None,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    Some(error(
        "no-namespaces",
        format!(
            "A sandbox could not be made ({said}); allow user namespaces: look at the sysctls \
             user.max_user_namespaces, kernel.unprivileged_userns_clone and \
             kernel.apparmor_restrict_unprivileged_userns, and at the container's seccomp profile."
        ),
    ))
}

fn error(code: &str, message: String) -> Diagnostic {
    Diagnostic { severity: Severity::Error, message, code: Some(code.to_owned()) }
}

impl Programs {
    /// The programs, or a sentence on which is missing.
    pub(super) fn find() -> Result<Self, String> {
        Ok(Self {
            bwrap: find("bwrap", "bubblewrap")?,
            prlimit: find("prlimit", "util-linux")?,
            setpriv: find("setpriv", "util-linux")?,
        })
    }
}

fn find(program: &str, package: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
    let mut places = folders.chain(FOLDERS.iter().map(PathBuf::from)).map(|folder| folder.join(program));
    let sentence = || format!("There is no program \"{program}\"; install the package \"{package}\".");
    places.find(|place| place.is_file()).ok_or_else(sentence)
}

impl BubblewrapProvider {
    /// The shell that sandboxes have: `bash` where the host has it, else `sh`.
    pub(super) fn shell() -> &'static str {
        if ["/usr/bin/bash", "/bin/bash"].iter().any(|place| Path::new(place).is_file()) { "bash" } else { "sh" }
    }
}
