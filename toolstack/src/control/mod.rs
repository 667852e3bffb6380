//! The client of the control wire (`abi::control::wire`): requests with answers, events, one line.
//!
//! One thread reads the line and hands each reply to the request that waits for it, by number. Any number of threads
//! may ask at once. Noise on the line costs a frame, and a request that only reads is sent again when its answer does
//! not come; a line that breaks off is made again where the machine allows it, and opened with `Hello` anew.

mod client;
mod console;
mod requests;

pub use client::{Client, Greeting, Reconnect};
pub use console::Console;
pub use requests::{Offline, Replaced};
