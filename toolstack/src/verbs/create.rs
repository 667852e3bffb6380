//! `create`: starts the guests of a description in the running machine.

use std::path::Path;

use serde_json::json;

use crate::{
    config::{Config, RESERVED_MIB, Surroundings},
    error::{Error, Result},
    holder, images,
    output::{self, grouped},
};

/// 4 KiB frames in a MiB.
const FRAMES_PER_MIB: u64 = 256;

/// Creates them in order; the first that is refused ends the command.
pub fn run(file: &Path, as_json: bool) -> Result<()> {
    let client = super::attached()?;
    let machine = client.machine()?;
    let order = holder::order(&holder::directory())?;
    // What is free now, and what a description of the whole machine would count as reserved.
    let free_mib = u32::try_from(machine.frames_free / FRAMES_PER_MIB).unwrap_or(u32::MAX - RESERVED_MIB);
    let surroundings = Surroundings {
        images: images::names(order.images.as_deref())?,
        running: Some((machine.cores, free_mib.saturating_add(RESERVED_MIB))),
    };
    let config = Config::load(Some(file), &surroundings)?;
    if config.machine.guests.is_empty() {
        return Err(Error::new(
            format!("{} describes no guest", file.display()),
            "see `atoll up --help` for an example",
        ));
    }
    let mut created = Vec::new();
    for guest in config.machine.guests {
        let name = guest.name.clone();
        let (domain, cores, ticks) =
            client.create(guest).map_err(|error| error.during(format!("creating `{name}`")))?;
        if !as_json {
            output::say(format!(
                "created {name}: domain {domain} on {} {}, in {} ticks",
                if cores.len() == 1 { "core" } else { "cores" },
                super::list::cores(&cores),
                grouped(ticks)
            ));
        }
        created.push(json!({ "name": name, "domain": domain, "cores": cores, "ticks": ticks }));
    }
    if as_json {
        output::say_json(&created);
    }
    Ok(())
}
