//! The example provider, staged in a folder on one version of the published SDK, for the tests of the crate and of the
//! whole ledger alike.

use std::path::Path;

/// The published SDK in its two versions, as `tests/plugins/package.json` names them.
pub(crate) const SDKS: [&str; 2] = ["plugin-sdk-2026-512", "plugin-sdk-2026-916"];

/// Copies the example to this folder, which is made, and gives it the SDK.
pub(crate) fn stage(home: &Path, sdk: &str) {
    let scope = home.join("node_modules/@paperclipai");
    std::fs::create_dir_all(&scope).expect("a folder");
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let package = repository.join("tests/plugins/node_modules").join(sdk);
    assert!(package.is_dir(), "{} is missing: run `npm ci` in tests/plugins", package.display());
    std::os::unix::fs::symlink(package, scope.join("plugin-sdk")).expect("a link");
    for file in ["worker.mjs", "manifest.json", "package.json"] {
        std::fs::copy(repository.join("examples/provider-plugin").join(file), home.join(file)).expect("a copy");
    }
}
