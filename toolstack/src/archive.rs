//! The boot archive, made: control image first, then the configuration, then the guests' images ([`abi::archive`]).

use std::{fs, path::Path};

use abi::archive;

use crate::{
    config::Config,
    cpio::{Entry, newc},
    elf_file,
    error::{At, Error, Result},
    images::Images,
};

/// A kernel or ramdisk as it goes into the machine: an ELF file without what no loader reads, any other as it is.
pub fn read_file(path: &Path) -> Result<Vec<u8>> {
    let file = fs::read(path).at("reading", path)?;
    Ok(elf_file::loadable(&file).unwrap_or(file))
}

/// An ELF file without what no loader reads.
pub fn read_image(path: &Path) -> Result<Vec<u8>> {
    let file = fs::read(path).at("reading the image", path)?;
    elf_file::loadable(&file).ok_or_else(|| {
        Error::new(
            format!("{} is no whole ELF64 file", path.display()),
            "guest kernels are ELF64 with a PVH note",
        )
    })
}

/// The boot archive with these images and this configuration.
pub fn build(images: &Images, config: &Config) -> Result<Vec<u8>> {
    let machine = postcard::to_allocvec(&config.machine)
        .map_err(|error| Error::new(format!("the configuration cannot be encoded: {error}"), ""))?;
    let mut entries = vec![
        Entry::file(archive::CONTROL_IMAGE, 0o644, &read_image(&images.control)?),
        Entry::file(archive::CONFIG, 0o644, &machine),
    ];
    for (name, path) in &images.guests {
        entries.push(Entry::file(&format!("{}{name}", archive::IMAGES), 0o644, &read_image(path)?));
    }
    for (name, path) in &config.files {
        entries.push(Entry::file(&format!("{}{name}", archive::IMAGES), 0o644, &read_file(path)?));
    }
    newc(&entries).at("writing", "the boot archive")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::guest;
    use abi::control::wire::MachineConfig;
    use std::{collections::BTreeMap, io::Read};

    #[test]
    fn entries_come_in_the_order_that_domain_0_reads() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, payload: &[u8]| {
            let path = directory.path().join(name);
            fs::write(&path, elf_file::tests::sample(payload, 50)).unwrap();
            path
        };
        let images = Images {
            hypervisor: file("h", b""),
            control: file("c", b"domain 0"),
            guests: BTreeMap::from([("mesh".to_owned(), file("m", b"a mesh"))]),
        };
        let ramdisk = directory.path().join("r");
        fs::write(&ramdisk, "a ramdisk").unwrap();
        let files =
            BTreeMap::from([("vmlinux".to_owned(), file("v", b"a kernel")), ("r".to_owned(), ramdisk)]);
        let config = Config { files, ..Config::of_guests(2, [guest("a", "mesh", 1)]) };
        let bytes = build(&images, &config).unwrap();

        let mut rest = bytes.as_slice();
        let mut seen = Vec::new();
        loop {
            let mut reader = ::cpio::newc::Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            let name = reader.entry().name().to_owned();
            let mut content = Vec::new();
            reader.read_to_end(&mut content).unwrap();
            seen.push((name, content));
            rest = reader.finish().unwrap();
        }
        let names: Vec<&str> = seen.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["control", "config", "images/mesh", "images/r", "images/vmlinux"]);
        assert!(seen[0].1.ends_with(b"domain 0"));
        assert_eq!(postcard::from_bytes::<MachineConfig>(&seen[1].1).unwrap(), config.machine);
        assert_eq!(seen[3].1, b"a ramdisk");
        assert!(seen[4].1.ends_with(b"a kernel"));
    }
}
