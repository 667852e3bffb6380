//! Monitors that meet, agree, die, lie.

mod cluster;
mod random;
mod rules;
mod wire;

use cluster::Cluster;
