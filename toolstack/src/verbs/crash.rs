//! `crash`: why a guest was stopped.

use serde_json::{Map, Value, json};

use crate::{error::Result, output};

/// Prints the cause and the registers.
pub fn run(name: &str, as_json: bool) -> Result<()> {
    let (cause, registers) = super::attached()?.crash(name)?;
    if as_json {
        let registers: Map<String, Value> =
            registers.into_iter().map(|(name, value)| (name, json!(format!("{value:#x}")))).collect();
        output::say_json(&json!({ "name": name, "cause": cause, "registers": registers }));
        return Ok(());
    }
    output::say(format!("{name}: {cause}"));
    for row in registers.chunks(3) {
        let line: String = row.iter().map(|(name, value)| format!("  {name:>14} {value:016x}")).collect();
        output::say(line);
    }
    Ok(())
}
