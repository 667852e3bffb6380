//! `create`: starts guests in the running machine, those of a description or one that options describe. Kernels and
//! ramdisks that the machine has not yet are uploaded first.

use std::path::Path;

use serde_json::json;

use crate::{
    config::{Config, Options, RESERVED_MIB, Surroundings},
    control::Client,
    error::{Error, Result},
    holder, images,
    machine::TransferDisk,
    output::{self, grouped},
    upload::{self, Brought},
};

/// 4 KiB frames in a MiB.
const FRAMES_PER_MIB: u64 = 256;

/// Creates them in order; the first that is refused ends the command. With `attach` it goes on as `console`.
pub fn run(file: Option<&Path>, options: &Options, attach: bool, as_json: bool) -> Result<()> {
    let client = super::attached()?;
    let directory = holder::directory();
    let (order, disk) = (holder::order(&directory)?, TransferDisk::of(&directory));
    let mut config = describe(&client, file, options, images::names(order.images.as_deref())?)?;
    let guests = &mut config.machine.guests;
    let brought = upload::bring(&client, &config.files, &order.files, disk.as_ref(), guests)?;
    if !as_json {
        brought.iter().for_each(|image| output::say(told(image)));
    }
    let mut created = Vec::new();
    for guest in &config.machine.guests {
        let (name, vcpus) = (&guest.name, guest.vcpus);
        let (domain, cores, ticks) =
            client.create(guest.clone()).map_err(|error| error.during(format!("creating `{name}`")))?;
        if !as_json {
            output::say(format!(
                "created {name}: domain {domain} on {} {}, in {} ticks",
                if cores.len() == 1 { "core" } else { "cores" },
                super::list::cores(&cores),
                grouped(ticks)
            ));
        }
        created.push(
            json!({ "name": name, "domain": domain, "vcpus": vcpus, "cores": cores, "ticks": ticks, "images": brought }),
        );
    }
    if as_json {
        output::say_json(&created);
    }
    match config.machine.guests.first() {
        Some(first) if attach => super::console::attach(client, &first.name),
        _ => Ok(()),
    }
}

fn describe(client: &Client, file: Option<&Path>, options: &Options, images: Vec<String>) -> Result<Config> {
    let machine = client.machine()?;
    // What is free now, and what a description of the whole machine would count as reserved.
    let free_mib = u32::try_from(machine.frames_free / FRAMES_PER_MIB).unwrap_or(u32::MAX - RESERVED_MIB);
    let surroundings = Surroundings {
        images,
        stored: client.images()?.into_iter().map(|image| image.name).collect(),
        running: Some((machine.cores, free_mib.saturating_add(RESERVED_MIB))),
    };
    let config = match file {
        Some(file) => Config::load(Some(file), &surroundings)?,
        None if options.is_empty() => {
            return Err(Error::new(
                "nothing says what to create",
                "name a description, or a kernel: `atoll create --kernel vmlinuz`",
            ));
        }
        None => Config::of_options(options, &surroundings)?,
    };
    match file {
        Some(file) if config.machine.guests.is_empty() => Err(Error::new(
            format!("{} describes no guest", file.display()),
            "see `atoll up --help` for an example",
        )),
        _ => Ok(config),
    }
}

fn told(Brought { image, bytes, took, .. }: &Brought) -> String {
    let size = grouped(*bytes);
    match took {
        Some(took) => format!("uploaded {image}: {size} bytes in {:.1} s", took.as_secs_f32()),
        None => format!("{image} is there already: {size} bytes"),
    }
}
