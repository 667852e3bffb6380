//! Monitors that meet, agree, die, lie.

mod channels;
mod cluster;
mod each_step;
mod every_word;
mod hostile;
mod pages;
mod random;
mod rules;
mod wire;

use cluster::Cluster;
