//! The command `atoll`.

fn main() {}
