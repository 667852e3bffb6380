//! Monitors that meet, agree, die, lie.

mod channels;
mod cluster;
mod every_word;
mod hostile;
mod pages;
mod random;
mod rules;
mod wire;

use cluster::Cluster;
