//! Where the real model is. Other test programs include this file.

use std::path::{Path, PathBuf};

/// The directory of all-MiniLM-L6-v2, which is too large to be kept here: named by `ASCRIBE_MINILM_DIR`, or in the
/// user's cache. `None`, after a line that says so, where it is missing and may be.
pub(crate) fn minilm() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let cache = || {
        let home = variable("HOME").map(|home| Path::new(&home).join(".cache"));
        variable("XDG_CACHE_HOME").map(PathBuf::from).or(home).map(|cache| cache.join("ascribe/minilm"))
    };
    let directory = variable("ASCRIBE_MINILM_DIR").map(PathBuf::from).or_else(cache);
    if let Some(directory) = &directory
        && directory.join("model.safetensors").is_file()
    {
        return Some(directory.clone());
    }
    let text = format!(
        "all-MiniLM-L6-v2 is not in {directory:?}: fetch it with tools/fetch-model, or name its directory in ASCRIBE_MINILM_DIR"
    );
    let required =
        variable("CI").is_some() || variable("ASCRIBE_REQUIRE_MODEL").is_some_and(|value| value == "1");
    assert!(!required, "{text}");
    eprintln!("skipped: {text}");
    None
}
