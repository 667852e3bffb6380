//! The toolstack: everything of Atoll that runs on the host, behind the command `atoll`.
//!
//! It builds the bare images ([`images`]), packs them with a checked configuration into the boot archive
//! ([`archive`]) and boots that on a machine. It never decides what happens inside the machine: it asks the control
//! domain over the second serial port, in the words of `abi::control::wire`, and the control domain is the next room
//! to visit (`guest-kernel`).
#![forbid(unsafe_code)]

pub mod archive;
pub mod cli;
pub mod config;
pub mod control;
pub mod cpio;
pub mod elf_file;
pub mod error;
pub mod holder;
pub mod host;
pub mod images;
pub mod instruction;
pub mod iso;
pub mod leftovers;
pub mod line;
pub mod linux;
pub mod machine;
pub mod output;
pub mod places;
pub mod progress;
pub mod session;
pub mod setup;
pub mod upload;
pub mod verbs;

pub use error::{Error, Result};
