//! `down`: powers the running machine off.

use std::time::Duration;

use crate::{
    error::Result,
    holder,
    machine::{SERIAL_LOG, SerialLog},
    output, progress,
};

/// How long the machine may take over it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Powers off and says how the run ended.
pub fn run() -> Result<()> {
    let directory = holder::directory();
    let work = progress::spinner("powering off");
    let outcome = holder::stop(&directory, PATIENCE);
    work.finish_and_clear();
    match outcome? {
        Some(outcome) if outcome.is_success() => output::say("down"),
        Some(outcome) => {
            let log = SerialLog::new(directory.join(SERIAL_LOG));
            return Err(outcome.as_error().with_log(log.path()));
        }
        None => output::say("down, by force: the machine did not power itself off"),
    }
    Ok(())
}
