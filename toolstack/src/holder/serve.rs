//! The holder's own life, in the background process.

use std::{fs, path::Path, thread, time::Duration};

use super::{ARCHIVE, FAILURE, Failure, HYPERVISOR, PROCESS, SOCKET, hub::Hub, order};
use crate::{
    error::{At, Result},
    leftovers, line,
    machine::{Boot, Machine, Spec},
    session::Session,
};

/// Boots the machine that `directory` describes and holds it until it ends.
pub fn serve(directory: &Path) -> Result<()> {
    let held = boot(directory).and_then(|(session, kind_patience)| hold(directory, session, kind_patience));
    if let Err(error) = &held {
        let failure = Failure { what: error.what().into(), remedy: error.remedy().into() };
        let path = directory.join(FAILURE);
        fs::write(&path, serde_json::json!(failure).to_string()).at("writing", &path)?;
    }
    leftovers::remove(&directory.join(SOCKET));
    leftovers::remove(&directory.join(PROCESS));
    held
}

fn boot(directory: &Path) -> Result<(Session, Duration)> {
    let own = std::process::id();
    let process = directory.join(PROCESS);
    fs::write(&process, own.to_string()).at("writing", &process)?;
    // A signal to the holder removes these two; the emulator has an entry of its own.
    leftovers::add(0, leftovers::Signal::TERM, vec![process, directory.join(SOCKET)]);
    // A session of its own: Ctrl-C in the terminal it was started from, or that terminal's end, is not meant for it.
    // A process that leads one already, as under `setsid`, needs none.
    let _ = rustix::process::setsid();

    let order = order(directory)?;
    let read = |name: &str| {
        let path = directory.join(name);
        fs::read(&path).at("reading", &path)
    };
    let boot = Boot::Parts {
        hypervisor: read(HYPERVISOR)?,
        archive: read(ARCHIVE)?,
        command_line: order.command_line.clone(),
    };
    let spec = Spec {
        kind: order.kind,
        cores: order.cores,
        packages: order.packages,
        max_cores: order.max_cores,
        memory_mib: order.memory_mib,
        boot,
        processor: None,
        unattended: false,
        directory: directory.to_owned(),
    };
    Ok((Session::start(&spec)?, order.kind.reply_patience()))
}

fn hold(directory: &Path, session: Session, patience: Duration) -> Result<()> {
    let Session { client, mut machine, failed } = session;
    leftovers::remove(&directory.join(SOCKET));
    let listener = line::listen_unix(directory, SOCKET).at("listening on", directory.join(SOCKET))?;
    let hub = Hub::new(client, failed, patience);
    thread::spawn(move || hub.serve(&listener));
    until_the_end(&mut machine)
}

fn until_the_end(machine: &mut Machine) -> Result<()> {
    let outcome = machine.wait(Duration::MAX)?;
    if outcome.is_success() { Ok(()) } else { Err(outcome.as_error().with_log(machine.log().path())) }
}
