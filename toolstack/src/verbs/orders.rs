//! `destroy`, `pause`, `unpause`: one order about one guest.

use crate::{error::Result, output};

/// Ends a guest.
pub fn destroy(name: &str) -> Result<()> {
    super::attached()?.destroy(name)?;
    output::say(format!("destroyed {name}"));
    Ok(())
}

/// Takes a guest off its core.
pub fn pause(name: &str) -> Result<()> {
    super::attached()?.pause(name)?;
    output::say(format!("paused {name}"));
    Ok(())
}

/// Lets it go on.
pub fn unpause(name: &str) -> Result<()> {
    super::attached()?.unpause(name)?;
    output::say(format!("unpaused {name}"));
    Ok(())
}
