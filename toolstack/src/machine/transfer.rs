//! The machine's transfer disk, from the host's side: a small file ([`abi::control::transfer`]).

use std::{
    fs::{self, File},
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use abi::control::transfer::{GEOMETRY, MAGIC, MAX_BYTES, SECTOR};

use crate::error::{At, Result};

/// The file's name in the run's directory.
const FILE: &str = "transfer.img";

/// A transfer disk's file.
#[derive(Clone, Debug)]
pub struct TransferDisk(PathBuf);

impl TransferDisk {
    /// Makes a disk for the machine in this directory.
    pub fn create(directory: &Path) -> Result<Self> {
        let path = directory.join(FILE);
        let (heads, sectors, cylinders) = GEOMETRY;
        let mut disk = vec![0; SECTOR * heads * sectors * cylinders];
        disk[..MAGIC.len()].copy_from_slice(MAGIC);
        fs::write(&path, disk).at("writing", &path)?;
        Ok(Self(path))
    }

    /// The disk of the machine in this directory, if it has one.
    pub fn of(directory: &Path) -> Option<Self> {
        let path = directory.join(FILE);
        path.is_file().then_some(Self(path))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What goes onto it at a time.
    pub fn pieces<'bytes>(&self, bytes: &'bytes [u8]) -> std::slice::Chunks<'bytes, u8> {
        bytes.chunks(MAX_BYTES)
    }

    /// Puts a piece onto the disk.
    pub fn put(&self, piece: &[u8]) -> Result<()> {
        let write = || -> io::Result<()> {
            let mut file = File::options().write(true).open(&self.0)?;
            file.seek(SeekFrom::Start(SECTOR as u64))?;
            file.write_all(piece)
        };
        write().at("writing", &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_lies_behind_the_header() {
        let directory = tempfile::tempdir().unwrap();
        assert!(TransferDisk::of(directory.path()).is_none());
        TransferDisk::create(directory.path()).unwrap();
        let disk = TransferDisk::of(directory.path()).unwrap();
        disk.put(b"a piece").unwrap();
        let file = fs::read(disk.path()).unwrap();
        assert_eq!(
            (file.len() % (16 * 63 * 512), &file[..16], &file[512..519]),
            (0, &MAGIC[..], &b"a piece"[..])
        );
    }
}
