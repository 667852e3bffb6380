//! Every order of events for small cases, and random ones for greater.

mod cases;
mod explore;
mod random;
mod trees;
pub(crate) mod world;
