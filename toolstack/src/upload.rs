//! Images on their way into a running machine: kernels and ramdisks that are files of the host.
//!
//! What is there already, by SHA-256, is not sent again. The control domain checks the sum as well, over what came.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use abi::control::wire::{GuestConfig, StoredImage};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{archive, control::Client, error::Result, machine::TransferDisk, progress};

/// One image that a guest needs, and what was done about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Brought {
    /// Its name in the machine.
    pub image: String,
    /// The file it is from.
    pub file: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// How long it took to send; `None`: the machine had it.
    #[serde(rename = "milliseconds", serialize_with = "milliseconds")]
    pub took: Option<Duration>,
}

fn milliseconds<S: serde::Serializer>(
    took: &Option<Duration>,
    to: S,
) -> std::result::Result<S::Ok, S::Error> {
    took.map(|took| took.as_millis() as u64).serialize(to)
}

/// The checksum that images are told apart by.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// A checksum as it is written.
pub fn hexadecimal(sum: &[u8; 32]) -> String {
    sum.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Brings the files that these guests need into the machine, and gives each guest the names that they have there.
/// `archived` are files that came in the boot archive, with their sums; `disk`
/// is the machine's transfer disk.
pub fn bring(
    client: &Client,
    files: &BTreeMap<String, PathBuf>,
    archived: &BTreeMap<String, String>,
    disk: Option<&TransferDisk>,
    guests: &mut [GuestConfig],
) -> Result<Vec<Brought>> {
    let mut brought = Vec::new();
    for (name, file) in files {
        let one = bring_one(client, name, file, archived, disk)?;
        if one.image != *name {
            guests.iter_mut().for_each(|guest| rename(guest, name, &one.image));
        }
        brought.push(one);
    }
    Ok(brought)
}

/// Brings one file that is to be called `name`, and tells what it is called.
pub fn bring_one(
    client: &Client,
    name: &str,
    file: &Path,
    archived: &BTreeMap<String, String>,
    disk: Option<&TransferDisk>,
) -> Result<Brought> {
    let bytes = archive::read_file(file)?;
    let sum = sha256(&bytes);
    let there = client.images()?;
    let image = name_for(name, &sum, &there, archived);
    let is_there = there.iter().any(|stored| {
        stored.name == image
            && (stored.sha256 == Some(sum) || archived.get(&image) == Some(&hexadecimal(&sum)))
    });
    let took = if is_there { None } else { Some(send(client, &image, file, &bytes, disk)?) };
    Ok(Brought { image, file: file.to_owned(), bytes: bytes.len() as u64, took })
}

/// What came in the boot archive stays, so another file of its name gets a name of its own. One that was uploaded is
/// replaced.
fn name_for(
    name: &str,
    sum: &[u8; 32],
    there: &[StoredImage],
    archived: &BTreeMap<String, String>,
) -> String {
    let in_archive = there.iter().any(|stored| stored.name == name && stored.sha256.is_none());
    if in_archive && archived.get(name) != Some(&hexadecimal(sum)) {
        return format!("{name}.{}", &hexadecimal(sum)[..8]);
    }
    name.to_owned()
}

fn rename(guest: &mut GuestConfig, old: &str, new: &str) {
    for image in std::iter::once(&mut guest.image).chain(guest.ramdisk.as_mut()).chain(guest.disk.as_mut()) {
        if image == old {
            *image = new.to_owned();
        }
    }
}

fn send(
    client: &Client,
    image: &str,
    file: &Path,
    bytes: &[u8],
    disk: Option<&TransferDisk>,
) -> Result<Duration> {
    let (start, bar) = (Instant::now(), progress::bar(bytes.len() as u64, format!("uploading {image}")));
    let sent = client.upload(image, bytes, sha256(bytes), disk, |done| bar.set_position(done));
    bar.finish_and_clear();
    sent.map_err(|error| error.during(format!("uploading {}", file.display())))?;
    Ok(start.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_sha_256() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hexadecimal(&sha256(b"abc")), expected);
    }

    #[test]
    fn what_came_in_the_archive_keeps_its_name() {
        let stored = |name: &str, sha256| StoredImage { name: name.into(), bytes: 1, sha256 };
        let there = [stored("vmlinuz", None), stored("initrd", Some([1; 32]))];
        let archived = BTreeMap::from([("vmlinuz".to_owned(), hexadecimal(&[2; 32]))]);
        assert_eq!(name_for("vmlinuz", &[2; 32], &there, &archived), "vmlinuz");
        assert_eq!(name_for("vmlinuz", &[3; 32], &there, &archived), "vmlinuz.03030303");
        assert_eq!(name_for("initrd", &[3; 32], &there, &archived), "initrd");
        let mut guest =
            GuestConfig { image: "a".into(), ramdisk: Some("b".into()), ..GuestConfig::default() };
        rename(&mut guest, "b", "c");
        assert_eq!((guest.image.as_str(), guest.ramdisk.as_deref()), ("a", Some("c")));
    }
}
