//! Xenstore's wire, which both ends speak: messages out of a stream of bytes ([`wire`]).
//!
//! The store's end is [`control::xenstore`](crate::control::xenstore).

pub mod wire;
