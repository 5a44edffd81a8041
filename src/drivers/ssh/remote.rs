//! What runs on the far side, in POSIX shell, and how a command is spelled for it. Pure.
//!
//! sshd hands one text to the user's login shell, whatever that is, and the text stands in the process list. So each text
//! is a constant in single quotes (read alike by sh, csh, fish and their kin) without anything of the caller's; what a
//! command is, where it starts and its environment go through its input, before its own.
//!
//! There are three texts. [`run`] is a supervisor: it starts the command in a session of its own, waits, kills what the
//! command left, and reports. [`kill`] ends a command from outside. [`watch`] lives as long as the connection, and kills
//! every command of it when that is lost. A command's processes are those of its session and those that bear its mark; a
//! process that left the session *and* erased its environment is not found. That needs `/proc` and `setsid`, as on Linux.
//!
//! **Invariants:** a text that was cut short by a lost connection is not run; nothing of an environment stands in a
//! process list; every report bears a token that only this connection's two ends know.

use crate::drivers::Command;

/// The environment variable that marks a command's processes: `CONNECTION.COMMAND`.
pub(super) const MARK: &str = "LEASE_EXECUTION_ID";
/// What [`watch`] says once it watches.
pub(super) const READY: &str = "lease-ledger: ready";
/// What [`watch`] is told where nothing is left to kill.
pub(super) const BYE: &str = "bye\n";

/// Sets `q` to the processes of mark `m` and session `p`.
const LIST: &str = r#"l() { q=; [ -z "$p" ] || for f in /proc/[0-9]*/stat; do IFS= read -r a <"$f" || continue; set -- ${a##*) }; [ "$4" != "$p" ] || [ "$1" = Z ] || { f=${f%/stat}; q="$q ${f#/proc/}"; }; done; for f in $(grep -lsF -e "LEASE_EXECUTION_ID=$m" /proc/[0-9]*/environ); do f=${f%/environ}; q="$q ${f#/proc/}"; done; }; "#;

/// Kills them until none is left, or some will not go after ten seconds.
const KILL_ALL: &str = r#"i=0; l; while [ -n "$q" ] && [ "$i" -lt 500 ]; do kill -KILL $q; i=$((i+1)); [ "$i" -lt 5 ] || sleep 0.02; l; done; "#;

/// Input: the token and the mark on a line, the command's line from [`spell`], then the command's own input.
pub(super) fn run() -> String {
    // The command's shell tells the supervisor its number, which is that of its session, through descriptor 5.
    let supervise = [
        r#"IFS=" " read -r t m || exit 0; exec 3>&1 4>&2 2>/dev/null; "#,
        r#"printf "\000%s begin\n" "$t" >&3; printf "\000%s begin\n" "$t" >&4; "#,
        r#"command -v setsid >/dev/null || { printf "\000%s setsid\n" "$t" >&4; exit 0; }; "#,
        r#"p=$(LEASE_EXECUTION_ID="$m" setsid sh -c "$1" 5>&1 >&3 2>&4 3>&- 4>&-); s=$?; "#,
        LIST,
        KILL_ALL,
        r#"[ -z "$q" ] || s=left; printf "\000%s exit %s\n" "$t" "$s" >&4"#,
    ]
    .concat();
    let command = r#"n=$(printf "\nx"); n=${n%x}; IFS= read -r l || exit 0; eval "$l""#;
    let clean = r#"exec env -i HOME="$HOME" PATH="$PATH" USER="$USER" LOGNAME="$LOGNAME" SHELL="$SHELL" "$@""#;
    format!("exec sh -c '{clean}' sh sh -c '{supervise}' sh '{command}'")
}

/// Input: a signal's name without `SIG`, a mark, and a session or nothing, on a line. `KILL` is repeated until none is
/// left; the exit code says whether none is.
pub(super) fn kill() -> String {
    let once = r#"l; [ -z "$q" ] || kill -s "$g" $q; "#;
    let read = r#"exec 2>/dev/null; IFS=" " read -r g m p || exit 1; "#;
    format!(
        "exec sh -c '{read}{LIST}if [ \"$g\" = KILL ]; then {KILL_ALL}else {once}fi; [ -z \"$q\" ] || exit 1; exit 0'"
    )
}

/// Input: the connection's mark on a line, then nothing until the end, or [`BYE`].
pub(super) fn watch() -> String {
    // Twice: a command whose text had just come in may start after the first look.
    let wait = r#"while IFS= read -r l; do [ "$l" != bye ] || exit 0; done; exec 2>/dev/null; "#;
    format!(
        "exec sh -c 'trap \"\" HUP; IFS= read -r m || exit 0; echo; echo \"{READY}\"; {wait}p=; \
         {LIST}{KILL_ALL}sleep 1; {KILL_ALL}exit 0'"
    )
}

/// A line that [`kill`] reads.
pub(super) fn kill_line(signal: &str, mark: &str, session: Option<u32>) -> String {
    let session = session.map(|session| session.to_string()).unwrap_or_default();
    format!("{signal} {mark} {session}\n")
}

/// The lines that [`run`] reads before the command's own input. `cwd` is absolute.
pub(super) fn spell(command: &Command, cwd: &str, token: &str, mark: &str) -> String {
    use std::fmt::Write;

    let say = |words: &str| format!("printf \"\\000%s {words}\\n\" {token} >&2");
    let mut text = format!("{token} {mark}\n");
    let mut push = |piece: std::fmt::Arguments<'_>| text.write_fmt(piece).expect("a string takes any text");
    push(format_args!("printf \"\\000%s pid %s\\n\" {token} \"$$\" >&2; echo \"$$\" >&5; exec 5>&-; "));
    push(format_args!("cd -P -- {} 2>/dev/null || {{ {}; exit 0; }}; unset OLDPWD; ", quoted(cwd), say("cwd")));
    for (name, value) in &command.env {
        push(format_args!("export {name}={}; ", quoted(value)));
    }
    push(format_args!("export {MARK}={mark}; set -- {}", quoted(&command.command)));
    for arg in &command.args {
        push(format_args!(" {}", quoted(arg)));
    }
    // A name that begins with a dash would be taken for an option by some shells' `exec`: its path is not.
    let absent = say("absent");
    push(format_args!("; x=$(command -v -- \"$1\" 2>/dev/null) || {{ {absent}; exit 0; }}; "));
    push(format_args!("case \"$1\" in -*) shift; set -- \"$x\" \"$@\";; esac; {}; exec \"$@\"\n", say("run")));
    text
}

/// Whether a shell can export a variable of this name.
pub(super) fn is_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.starts_with(|first: char| first.is_ascii_digit())
}

/// One word of shell for any text without NUL, in one line. `$n` is a line feed there.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''").replace('\n', "'\"$n\"'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_are_read_alike_by_every_login_shell() {
        for text in [run(), kill(), watch()] {
            assert!(!text.contains(['\n', '`']) && !text.contains("\\\\"), "{text}");
            // Pairs of quotes only: none is escaped, so none is inside another.
            assert_eq!(text.matches('\'').count() % 2, 0);
            let outside: Vec<&str> = text.split('\'').step_by(2).collect();
            assert!(outside.iter().all(|part| part.chars().all(|one| one.is_ascii_lowercase() || " -".contains(one))));
        }
    }

    #[test]
    fn a_spelled_command_is_two_lines_whatever_it_holds() {
        let command = Command {
            command: "a\nb".to_owned(),
            args: vec!["'\n'".to_owned()],
            cwd: None,
            env: vec![("A".to_owned(), "\n".to_owned())],
            stdin: None,
            timeout: None,
        };
        assert_eq!(spell(&command, "/\n", "t", "m").matches('\n').count(), 2);
    }

    #[test]
    fn names_that_no_shell_can_export_are_told_apart() {
        assert!(is_name("A_1") && is_name("_"));
        assert!(!is_name("1A") && !is_name("A-B") && !is_name("A;B") && !is_name("é"));
    }
}
