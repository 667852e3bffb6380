//! `dmesg`: the hypervisor's log.

use serde_json::json;

use crate::{error::Result, output};

/// Prints all of it that is still kept.
pub fn run(as_json: bool) -> Result<()> {
    let log = super::attached()?.whole_log()?;
    if as_json {
        let text = String::from_utf8_lossy(&log);
        output::say_json(&text.lines().map(|line| json!(line)).collect::<Vec<_>>());
    } else {
        output::say_bytes(&log);
    }
    Ok(())
}
