//! Waiting for a condition.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{Result, wrong};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// How long anything inside a machine may take. Nothing does: this is for what hangs, on a slow host.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Looks again and again until there is something. `what` was awaited, where nothing comes.
pub fn until<Seen>(what: &str, look: impl FnMut() -> Result<Option<Seen>>) -> Result<Seen> {
    until_within(PATIENCE, what, look)
}

/// The same with another patience.
pub fn until_within<Seen>(
    patience: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<Option<Seen>>,
) -> Result<Seen> {
    let start = Instant::now();
    loop {
        if let Some(seen) = look()? {
            return Ok(seen);
        }
        if start.elapsed() > patience {
            return Err(wrong(format!("after {} s there is still no sign of {what}", patience.as_secs())));
        }
        thread::sleep(LOOK);
    }
}
