//! To be written.
#![no_std]

pub mod descriptors;
