//! Writes what `fuzz::seeds` has written down into the directories of the seeds.

use std::{fs, io};

fn main() -> io::Result<()> {
    for target in fuzz::TARGETS {
        fs::create_dir_all(target.directory())?;
        for (name, bytes) in (target.seeds)() {
            fs::write(target.directory().join(name), bytes)?;
        }
    }
    Ok(())
}
