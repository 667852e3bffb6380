//! What the programs do, as far as a host test can reach it.

pub mod answer;
pub mod echo;
pub mod exchange;
pub mod latency;
pub mod measure;
pub mod multikernel;
pub mod random;
mod token;
