//! `core list`, `core offline`, `core online`: cores go out of service and come back, with the guests that they keep.
//! `core replace`: another kernel takes over a running one.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use abi::control::wire::{Core, Kept, Machine, Presence};
use serde_json::{Value, json};

use crate::{
    config::image_name,
    control::{Client, Offline, Replaced},
    error::{Error, Result},
    holder,
    machine::TransferDisk,
    output::{self, grouped},
    upload,
};

/// Between two looks whether a guest has suspended itself. Domain 0 gives it two seconds of its own.
const LOOK: Duration = Duration::from_millis(5);
/// An emulator takes its time for those.
const PATIENCE: Duration = Duration::from_secs(300);

/// Prints the table, or an array of objects.
pub fn list(as_json: bool) -> Result<()> {
    let client = super::attached()?;
    let (cores, machine) = (client.cores()?, client.machine()?);
    if as_json {
        output::say_json(&cores.iter().map(|core| in_json(core, &machine)).collect::<Vec<Value>>());
        return Ok(());
    }
    let mut table =
        output::table(&["Core", "APIC id", "Package", "Core of it", "Thread", "State", "Guest", "Since"]);
    for core in &cores {
        table.add_row([
            core.number.to_string(),
            core.apic_id.to_string(),
            core.package.to_string(),
            core.core.to_string(),
            core.thread.to_string(),
            state(core).into(),
            guest(core),
            since(core, &machine),
        ]);
    }
    output::say(output::rendered(table, &[0, 1, 2, 3, 4]));
    Ok(())
}

/// What the processor is about.
fn state(core: &Core) -> &'static str {
    match core.presence {
        _ if core.is_online => "online",
        Presence::Known => "offline (out of VMX, waits for a start-up IPI)",
        Presence::New => "offline (new; never started)",
        Presence::Absent => "not there (a place for one)",
    }
}

fn guest(core: &Core) -> String {
    match (&core.guest, &core.keeps) {
        (Some(name), _) => name.clone(),
        (None, Some((name, how))) => format!("keeps {name}, {}", kept(*how)),
        (None, None) => String::from("-"),
    }
}

/// How a guest is kept, in words.
fn kept(how: Kept) -> &'static str {
    match how {
        Kept::Suspended => "which suspended itself",
        Kept::Frozen => "frozen",
        Kept::Still => "as it was",
    }
}

/// The same for programs.
fn kept_word(how: Kept) -> &'static str {
    match how {
        Kept::Suspended => "suspended",
        Kept::Frozen => "frozen",
        Kept::Still => "still",
    }
}

fn since(core: &Core, machine: &Machine) -> String {
    let Some(tsc) = core.since_tsc else {
        return String::from(if core.presence == Presence::Known { "boot" } else { "-" });
    };
    let ms = machine.tsc.saturating_sub(tsc) / u64::from(machine.tsc_khz.max(1));
    format!("{}.{:03} s ago", ms / 1000, ms % 1000)
}

fn in_json(core: &Core, machine: &Machine) -> Value {
    json!({
        "core": core.number,
        "apic_id": core.apic_id,
        "package": core.package,
        "core_of_package": core.core,
        "thread": core.thread,
        "online": core.is_online,
        "power": match core.presence {
            _ if core.is_online => "vmx",
            Presence::Absent => "absent",
            Presence::Known | Presence::New => "wait-for-sipi",
        },
        "new": core.presence == Presence::New,
        "guest": core.guest,
        "keeps": core.keeps.as_ref().map(|(name, how)| json!({ "guest": name, "how": kept_word(*how) })),
        "since_tsc": core.since_tsc,
        "tsc": machine.tsc,
    })
}

/// Takes a core out of service, and waits until its guest has suspended itself, if it can.
pub fn offline(core: u32, as_json: bool) -> Result<()> {
    let left = ask_offline(&super::attached()?, core)?;
    let Offline { core, guest, ticks } = left;
    if as_json {
        let guest = guest.map(|(name, how)| json!({ "guest": name, "how": kept_word(how) }));
        output::say_json(&json!({ "core": core, "online": false, "keeps": guest, "ticks": ticks }));
        return Ok(());
    }
    let keeps = guest.map_or(String::new(), |(name, how)| format!(", and keeps {name}, {}", kept(how)));
    output::say(format!("core {core} is offline{keeps}: {} ticks", grouped(ticks)));
    Ok(())
}

/// Asks, and waits for what becomes of it.
pub fn ask_offline(client: &Client, core: u32) -> Result<Offline> {
    match client.core_offline(core)? {
        Some(left) => Ok(left),
        None => awaited(|| client.core_left(), &format!("core {core} is still on its way off")),
    }
}

/// Looks until there is what domain 0 will have in a while; else what `still` says.
fn awaited<T>(mut look: impl FnMut() -> Result<Option<T>>, still: &str) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(seen) = look()? {
            return Ok(seen);
        }
        if start.elapsed() > PATIENCE {
            return Err(Error::new(
                format!("{still} after {} s", PATIENCE.as_secs()),
                "see `atoll core list`, and what its guest says at its console",
            ));
        }
        std::thread::sleep(LOOK);
    }
}

/// Lets another kernel take over a core, and waits until it has.
pub fn replace(core: u32, image: Option<&str>, command_line: Option<&str>, as_json: bool) -> Result<()> {
    let client = super::attached()?;
    let image = image.map(|image| in_machine(&client, image)).transpose()?;
    let replaced = ask_replace(&client, core, image.as_deref(), command_line)?;
    let Replaced { core, guest, image, bytes, ticks, pause } = replaced;
    if as_json {
        output::say_json(&json!({
            "core": core, "guest": guest, "image": image, "bytes": bytes, "ticks": ticks, "pause_ticks": pause,
        }));
        return Ok(());
    }
    output::say(format!(
        "core {core} has another kernel, {image}, which goes on as {guest}: {} bytes, {} ticks, of which {} without a \
         kernel",
        grouped(bytes),
        grouped(ticks),
        grouped(pause)
    ));
    Ok(())
}

/// The name that the machine knows an image by. A file is uploaded, unless the machine has it.
fn in_machine(client: &Client, image: &str) -> Result<String> {
    if !image.contains('/') {
        return Ok(image.to_owned());
    }
    let directory = holder::directory();
    let (order, disk) = (holder::order(&directory)?, TransferDisk::of(&directory));
    let file = PathBuf::from(image);
    let name = image_name(&file);
    Ok(upload::bring_one(client, &name, &file, &order.files, disk.as_ref())?.image)
}

/// Asks, and waits for what becomes of it.
pub fn ask_replace(
    client: &Client,
    core: u32,
    image: Option<&str>,
    command_line: Option<&str>,
) -> Result<Replaced> {
    client.core_replace(core, image, command_line)?;
    awaited(|| client.core_replaced(), &format!("the kernel on core {core} is still being replaced"))
}

/// Puts a core back into service.
pub fn online(core: u32, guest: Option<&str>, empty: bool, as_json: bool) -> Result<()> {
    let (core, guest, ticks) = super::attached()?.core_online(core, guest, empty)?;
    if as_json {
        output::say_json(&json!({ "core": core, "online": true, "guest": guest, "ticks": ticks }));
        return Ok(());
    }
    let with = guest.map_or(String::new(), |name| format!(" with {name}"));
    output::say(format!("core {core} is online{with}: {} ticks", grouped(ticks)));
    Ok(())
}
