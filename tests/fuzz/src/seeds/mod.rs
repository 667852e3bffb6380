//! What the targets begin with, as it is written into `seeds`.

mod devices;
mod processor;

pub use devices::*;
pub use processor::*;

/// Inputs, each with its file's name.
pub type Seeds = Vec<(&'static str, Vec<u8>)>;
