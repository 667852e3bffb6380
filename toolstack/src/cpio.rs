//! Archives in the `newc` form of cpio, which both Linux and domain 0 read.

use std::io::{self, Write};

/// One entry.
#[derive(Clone, Debug)]
pub struct Entry {
    name: String,
    mode: u32,
    content: Vec<u8>,
}

impl Entry {
    /// A regular file with these permissions.
    pub fn file(name: &str, permissions: u32, content: &[u8]) -> Self {
        Self { name: name.to_owned(), mode: 0o100_000 | permissions, content: content.to_vec() }
    }

    /// A directory.
    pub fn directory(name: &str) -> Self {
        Self { name: name.to_owned(), mode: 0o040_755, content: Vec::new() }
    }

    /// A symbolic link.
    pub fn link(name: &str, target: &str) -> Self {
        Self { name: name.to_owned(), mode: 0o120_777, content: target.as_bytes().to_vec() }
    }
}

/// The archive with these entries, in this order.
pub fn newc(entries: &[Entry]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    for (entry, inode) in entries.iter().zip(1..) {
        let size = u32::try_from(entry.content.len()).map_err(io::Error::other)?;
        let header = ::cpio::newc::Builder::new(&entry.name).ino(inode).nlink(1).mode(entry.mode);
        let mut file = header.write(out, size);
        file.write_all(&entry.content)?;
        out = file.finish()?;
    }
    ::cpio::newc::trailer(out)
}
