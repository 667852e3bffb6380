//! Where things are: the clone, its target directory, and the directories of runs.

use std::{
    env,
    path::{Path, PathBuf},
};

use crate::error::{At, Result};

/// The root of the Atoll clone we are in, or were built from. `None` for an installed command far from any clone.
pub fn clone_root() -> Option<PathBuf> {
    let is_clone = |path: &Path| {
        path.join("abi/src/exit_code.rs").is_file() && path.join("hypervisor/Cargo.toml").is_file()
    };
    let here = env::current_dir().ok();
    here.iter()
        .flat_map(|here| here.ancestors())
        .chain(Path::new(env!("CARGO_MANIFEST_DIR")).parent())
        .find(|path| is_clone(path))
        .map(Path::to_path_buf)
}

/// Cargo's target directory for that clone.
pub fn target_directory(root: &Path) -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |path| root.join(path))
}

/// Where runs and downloads are kept: `ATOLL_STATE`, else `target/atoll` in a clone, else `~/.local/state/atoll`.
pub fn state_directory() -> PathBuf {
    if let Some(state) = env::var_os("ATOLL_STATE") {
        return PathBuf::from(state);
    }
    if let Some(root) = clone_root() {
        return target_directory(&root).join("atoll");
    }
    let home = env::var_os("HOME").map_or_else(env::temp_dir, PathBuf::from);
    env::var_os("XDG_STATE_HOME").map_or_else(|| home.join(".local/state"), PathBuf::from).join("atoll")
}

/// The directory of the run with this name. Not made yet.
pub fn run_directory(name: &str) -> PathBuf {
    state_directory().join("run").join(name)
}

/// Makes a directory and those above it.
pub fn make(directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory).at("making the directory", directory)
}

/// Finds a program as a shell would, and in the two places an ordinary user's `PATH` leaves out.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}
