//! `linux`: Debian's kernel and a small file system, to run as a guest, with a description of a machine that does.

use std::{fs, path::Path};

use crate::{
    error::{At, Result},
    linux::guest,
    output, progress, setup,
};

const DESCRIPTION: &str = r#"# Debian's kernel on two cores, beside one of Atoll's own guest kernels.
[machine]
cores = 4
memory_mib = 1024

[[guest]]
name = "mesh1"
image = "mesh"
core = 1

[[guest]]
name = "linux"
kernel = "vmlinuz"
ramdisk = "initrd.gz"
cores = [2, 3]
memory_mib = 256
command_line = "console=hvc0"
"#;

/// Writes the three files to `directory`.
pub fn run(directory: &Path, yes: bool) -> Result<()> {
    setup::ensure(&["linux"], yes)?;
    let work = progress::spinner("fetching Debian's kernel");
    let files = guest::write(directory);
    work.finish_and_clear();
    let files = files?;
    let description = directory.join("linux.toml");
    fs::write(&description, DESCRIPTION).at("writing", &description)?;
    let told = description.display();
    output::say(format!(
        "wrote {}, {} and {told}\n`atoll up {told}`, then `atoll console linux`",
        files.kernel.display(),
        files.ramdisk.display()
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Surroundings};

    #[test]
    fn the_description_is_one() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("vmlinuz"), b"\x7fELF\x02...").unwrap();
        fs::write(directory.path().join("initrd.gz"), b"...").unwrap();
        let surroundings = Surroundings { images: vec!["mesh".into()], ..Surroundings::default() };
        let config = Config::parse(DESCRIPTION, &directory.path().join("linux.toml"), &surroundings).unwrap();
        assert_eq!(config.machine.guests[1].vcpus, 2);
    }
}
