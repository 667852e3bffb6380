//! Handover: a core's kernel gives all that it knows to the kernel that takes its place.
//!
//! What a kernel knows is a value: the agreement with its transactions under way, the replica, the channels with what has
//! not been read of them, how far each link of the mesh is, and what its programs remember while they wait. So it can be
//! written down between any two of its rounds, and whoever reads it goes on with the next round. No protocol has to come to
//! rest for it, and the other cores notice nothing but a pause.
//!
//! ```text
//! old kernel                                   new kernel
//!   drains what stays within the core
//!   writes itself down ──── package ──────────▶ reads, checks, builds itself
//!   keeps itself, and waits                     │ refused, or broken? ──▶ the old one goes on
//!                                               ▼
//!   is let go ◀──────── took over ───────────── its first round
//! ```
//!
//! Until it has taken over, the new kernel writes nothing that anybody else reads. So to go back is to let it fall.
//!
//! The package is an allegation: a checksum tells damage, a version tells another format, and what is read is checked
//! before it is used. Whatever is wrong with it, the answer is a refusal that names the part.

use alloc::vec::Vec;

use abi::control::succession::{Failure, MAX_PACKAGE};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

/// What a package begins with.
const MAGIC: [u8; 8] = *b"ATOLLHND";
/// The format of what is in it. Raised whenever a type that goes over changes.
pub const VERSION: u32 = 5;
/// Magic, version, length.
const HEAD: usize = 8 + 4 + 4;
const DIGEST: usize = 32;
/// The longest package that is read.
pub const LONGEST: usize = MAX_PACKAGE as usize;

/// Why a package is not taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is none.
    NoPackage,
    /// Its format is another.
    Version(u32),
    /// It is not what was written.
    Damaged,
    /// The links of the mesh cannot be so.
    Mesh,
    /// The monitor cannot be so.
    Monitor,
    /// The program cannot be so.
    Program,
    /// More than there is room for.
    Crowded,
    /// The new kernel was to fail there, and did.
    Failed(&'static str),
}

impl Refused {
    /// As whoever asked for another kernel is told.
    pub const fn failure(self) -> Failure {
        match self {
            Self::NoPackage => Failure::NoPackage,
            Self::Version(_) => Failure::Version,
            Self::Damaged => Failure::Damaged,
            Self::Mesh => Failure::Mesh,
            Self::Monitor => Failure::Monitor,
            Self::Program => Failure::Program,
            Self::Crowded => Failure::Crowded,
            Self::Failed(_) => Failure::OnPurpose,
        }
    }
}

/// Something that goes over.
pub trait Carry: Sized {
    /// What of it is written down.
    type Carried: Serialize + DeserializeOwned;

    /// As it is now. Nothing changes by it.
    fn carry(&self) -> Self::Carried;
}

/// Packs what is carried.
pub fn pack(carried: &impl Serialize) -> Vec<u8> {
    // Into memory, of what has no unknown lengths: this does not fail.
    let body = postcard::to_allocvec(carried).unwrap_or_default();
    let mut package = Vec::with_capacity(HEAD + body.len() + DIGEST);
    package.extend(MAGIC);
    package.extend(VERSION.to_le_bytes());
    package.extend((body.len() as u32).to_le_bytes());
    package.extend(&body);
    let digest = Sha256::digest(&package);
    package.extend(digest);
    package
}

/// What is in the package, as far as it is whole and of this format. There may be more bytes behind it.
pub fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refused> {
    unpack_as(VERSION, bytes)
}

/// The same by a kernel whose format is this one.
pub fn unpack_as<T: DeserializeOwned>(version: u32, bytes: &[u8]) -> Result<T, Refused> {
    let (head, rest) = bytes.split_first_chunk::<HEAD>().ok_or(Refused::NoPackage)?;
    let word = |at: usize| head[at..].first_chunk().map_or(0, |word| u32::from_le_bytes(*word));
    if head[..8] != MAGIC {
        return Err(Refused::NoPackage);
    }
    if word(8) != version {
        return Err(Refused::Version(word(8)));
    }
    let length = word(12) as usize;
    if length > LONGEST {
        return Err(Refused::Damaged);
    }
    let (body, rest) = rest.split_at_checked(length).ok_or(Refused::Damaged)?;
    let digest = Sha256::new().chain_update(head).chain_update(body).finalize();
    if rest.get(..DIGEST) != Some(&digest[..]) {
        return Err(Refused::Damaged);
    }
    match postcard::take_from_bytes(body) {
        Ok((carried, [])) => Ok(carried),
        _ => Err(Refused::Damaged),
    }
}

#[cfg(test)]
mod tests;
