//! What the targets begin with, as it is written into `seeds`.

mod devices;
mod files;
mod messages;
mod processor;

pub use devices::*;
pub use files::*;
pub use messages::*;
pub use processor::*;

/// Inputs, each with its file's name.
pub type Seeds = Vec<(&'static str, Vec<u8>)>;
