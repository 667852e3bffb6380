//! Xenstore, seen from a guest: the wire that both ends speak ([`wire`]) and the guest's end ([`client`]).
//!
//! The store's end is [`control::xenstore`](crate::control::xenstore); what the two ends of a device keep in the store is
//! [`xenbus`](crate::xenbus)'s business.

pub mod client;
pub mod wire;
