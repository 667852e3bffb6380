//! The images that guests are made of: those of the boot archive, and those that were uploaded since.
//!
//! An upload comes in pieces, in order, and counts when all of it is there and its SHA-256 is the one that was announced.
//! It replaces an earlier upload of its name at that moment and not before. Domain 0 keeps uploads in its own memory,
//! and takes none that would leave it without room to work in ([`room`]).

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use abi::control::wire::{MAX_PIECE, Refusal, StoredImage};
use sha2::{Digest, Sha256};

use super::archive::Archive;
use super::refusal::{printable, refuse};

/// The longest name of an image.
const MAX_NAME: usize = 64;
/// What domain 0 keeps free for its work.
const HEADROOM: usize = 8 << 20;

/// All images.
pub struct Images {
    archive: Archive<'static>,
    uploaded: BTreeMap<String, Uploaded>,
    under_way: Option<Upload>,
}

struct Uploaded {
    bytes: Vec<u8>,
    sha256: [u8; 32],
}

/// An upload that is under way.
struct Upload {
    name: String,
    size: usize,
    bytes: Vec<u8>,
    announced: [u8; 32],
    so_far: Sha256,
}

/// Memory for so many bytes, none of them there yet. `None`: domain 0 has not as much and room to work in besides.
pub fn room(bytes: usize) -> Option<Vec<u8>> {
    let mut probe = Vec::<u8>::new();
    probe.try_reserve_exact(bytes.checked_add(HEADROOM)?).ok()?;
    drop(probe);
    let mut room = Vec::new();
    room.try_reserve_exact(bytes).ok()?;
    Some(room)
}

impl Images {
    /// Those of this archive.
    pub fn new(archive: Archive<'static>) -> Self {
        Self { archive, uploaded: BTreeMap::new(), under_way: None }
    }

    /// The archive.
    pub fn archive(&self) -> &Archive<'static> {
        &self.archive
    }

    /// The image of this name.
    pub fn find(&self, name: &str) -> Option<&[u8]> {
        match self.archive.image(name) {
            Some(bytes) => Some(bytes),
            None => self.uploaded.get(name).map(|image| &*image.bytes),
        }
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.archive.images().chain(self.uploaded.keys().map(String::as_str))
    }

    /// All of them, as they are listed.
    pub fn list(&self) -> Vec<StoredImage> {
        self.names()
            .map(|name| StoredImage {
                name: name.into(),
                bytes: self.find(name).map_or(0, |bytes| bytes.len() as u64),
                sha256: self.uploaded.get(name).map(|image| image.sha256),
            })
            .collect()
    }

    /// Begins an upload, and forgets one that was under way.
    pub fn begin(&mut self, name: &str, bytes: u64, announced: [u8; 32]) -> Result<(), Refusal> {
        self.under_way = None;
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(sound) {
            return Err(refuse(
                format!("`{}` is no name for an image", printable(name)),
                "use 1 to 64 of a-z A-Z 0-9 - _ . +",
            ));
        }
        if self.archive.image(name).is_some() {
            return Err(refuse(format!("the boot archive has an image `{name}`"), "choose another name"));
        }
        let size = usize::try_from(bytes).ok().filter(|&size| size > 0);
        let place = size.and_then(room);
        let (Some(size), Some(place)) = (size, place) else {
            return Err(refuse(
                format!("domain 0 has no memory for an image of {bytes} bytes"),
                "remove some (`atoll image rm`), or name this one in the description that the machine starts with",
            ));
        };
        self.under_way =
            Some(Upload { name: name.into(), size, bytes: place, announced, so_far: Sha256::new() });
        Ok(())
    }

    /// Takes the next piece. The last one ends the upload, well or not. `most` is what one piece may have.
    pub fn piece(&mut self, from: u64, bytes: &[u8], most: usize) -> Result<(), Refusal> {
        let Some(upload) = &mut self.under_way else {
            return Err(refuse("no upload is under way", "begin it anew"));
        };
        let have = upload.bytes.len();
        let fits = bytes.len() <= most && bytes.len() <= upload.size - have;
        if from != have as u64 || !fits || bytes.is_empty() {
            return Err(refuse(
                format!(
                    "the piece at {from}, {} bytes, does not follow the {have} that are here",
                    bytes.len()
                ),
                format!("send the bytes in order, at most {MAX_PIECE} at a time"),
            ));
        }
        upload.so_far.update(bytes);
        upload.bytes.extend_from_slice(bytes);
        if upload.bytes.len() < upload.size {
            return Ok(());
        }
        let Some(upload) = self.under_way.take() else { return Ok(()) };
        let sha256: [u8; 32] = upload.so_far.finalize().into();
        if sha256 != upload.announced {
            return Err(refuse(
                format!("the image `{}` did not arrive as it was sent: its SHA-256 differs", upload.name),
                "upload it again",
            ));
        }
        self.uploaded.insert(upload.name, Uploaded { bytes: upload.bytes, sha256 });
        Ok(())
    }

    /// Forgets the upload that is under way, and what came of it.
    pub fn abandon(&mut self) {
        self.under_way = None;
    }

    /// Forgets an upload.
    pub fn remove(&mut self, name: &str) -> Result<(), Refusal> {
        match self.uploaded.remove(name) {
            Some(_) => Ok(()),
            None if self.archive.image(name).is_some() => Err(refuse(
                format!("the image `{name}` belongs to the boot archive"),
                "it goes when the machine does",
            )),
            None => Err(refuse(
                format!("there is no image `{}`", printable(name)),
                "`atoll image list` shows those there are",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(bytes: &[u8]) -> [u8; 32] {
        Sha256::digest(bytes).into()
    }

    fn images() -> Images {
        Images::new(Archive::read(b""))
    }

    #[test]
    fn an_upload_counts_when_it_is_whole() {
        let (mut images, bytes) = (images(), [7u8; 20_000]);
        images.begin("kernel", 20_000, sum(&bytes)).unwrap();
        for (index, piece) in bytes.chunks(MAX_PIECE).enumerate() {
            assert!(images.find("kernel").is_none());
            images.piece((index * MAX_PIECE) as u64, piece, MAX_PIECE).unwrap();
        }
        assert_eq!(images.find("kernel"), Some(&bytes[..]));
        assert_eq!(images.list()[0].sha256, Some(sum(&bytes)));
        images.remove("kernel").unwrap();
        assert!(images.remove("kernel").is_err() && images.list().is_empty());
    }

    #[test]
    fn a_damaged_upload_leaves_the_old_one() {
        let mut images = images();
        images.begin("kernel", 3, sum(b"old")).unwrap();
        images.piece(0, b"old", MAX_PIECE).unwrap();
        images.begin("kernel", 3, sum(b"new")).unwrap();
        assert!(images.piece(0, b"nex", MAX_PIECE).unwrap_err().what.contains("SHA-256"));
        assert_eq!(images.find("kernel"), Some(&b"old"[..]));
        assert!(images.piece(3, b"x", MAX_PIECE).unwrap_err().what.contains("no upload"));
    }

    #[test]
    fn an_abandoned_upload_leaves_no_trace() {
        let mut images = images();
        images.begin("mine", 8, sum(b"12345678")).unwrap();
        images.piece(0, b"1234", MAX_PIECE).unwrap();
        images.abandon();
        assert!(images.piece(4, b"5678", MAX_PIECE).unwrap_err().what.contains("no upload"));
        assert_eq!(images.find("mine"), None);
        images.abandon();
    }

    #[test]
    fn pieces_come_in_order_and_fit() {
        let mut images = images();
        images.begin("kernel", 10, sum(b"")).unwrap();
        images.piece(0, b"abc", MAX_PIECE).unwrap();
        for (from, bytes) in [(0, &b"abc"[..]), (4, b"d"), (3, b"12345678"), (3, b"")] {
            assert!(images.piece(from, bytes, MAX_PIECE).is_err());
        }
        images.piece(3, b"1234567", MAX_PIECE).unwrap_err();
        assert!(images.begin("a b", 10, [0; 32]).is_err());
        assert!(images.begin("kernel", 0, [0; 32]).is_err());
        assert!(images.begin("kernel", u64::MAX, [0; 32]).unwrap_err().what.contains("no memory"));
    }
}
