//! Every order of events for small cases, and random ones for greater.

mod cases;
pub(crate) mod explore;
mod random;
mod trees;
pub(crate) mod world;
