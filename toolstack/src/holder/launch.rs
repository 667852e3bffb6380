//! The foreground's side of a holder: starting it, and ending it.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use abi::exit_code::ExitCode;

use super::{ARCHIVE, FAILURE, Failure, HYPERVISOR, ORDER, Order, PROCESS, SOCKET, VERB, attach, process};
use crate::{
    control::Client,
    error::{At, Error, Result},
    leftovers::{self, Signal},
    machine::{Outcome, SERIAL_LOG, SerialLog},
    places, progress,
};

/// Starts a machine in the background and waits until its control domain answers.
pub fn launch(directory: &Path, order: &Order, hypervisor: &[u8], archive: &[u8]) -> Result<Client> {
    if process(directory).is_some() {
        return Err(Error::new("a machine is running already", "stop it first with `atoll down`"));
    }
    places::make(directory)?;
    for old in [FAILURE, PROCESS, SOCKET] {
        leftovers::remove(&directory.join(old));
    }
    let text = serde_json::json!(order).to_string();
    for (name, content) in [(ORDER, text.as_bytes()), (HYPERVISOR, hypervisor), (ARCHIVE, archive)] {
        fs::write(directory.join(name), content).at("writing", directory.join(name))?;
    }
    let mut holder = start(directory)?;
    leftovers::add(holder.id(), Signal::TERM, Vec::new());
    let client = wait_for(directory, &mut holder, order.kind.boot_patience() + Duration::from_secs(60));
    leftovers::forget(holder.id());
    if client.is_err() {
        leftovers::send(holder.id(), Signal::TERM);
        // It is our child until we end; a holder that boots in vain is gone in a moment.
        let _ = holder.wait();
    }
    client
}

fn start(directory: &Path) -> Result<Child> {
    let own = std::env::current_exe().at("finding", "this command's own file")?;
    let path = directory.join("holder.log");
    let log = File::create(&path).at("writing", &path)?;
    let errors = log.try_clone().at("writing", &path)?;
    Command::new(&own)
        .arg(VERB)
        .arg(directory)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .at("running", &own)
}

fn wait_for(directory: &Path, holder: &mut Child, patience: Duration) -> Result<Client> {
    let log = SerialLog::new(directory.join(SERIAL_LOG));
    let (start, spinner) = (Instant::now(), progress::spinner("booting"));
    loop {
        if directory.join(SOCKET).exists()
            && let Ok(client) = attach(directory)
        {
            spinner.finish_and_clear();
            return Ok(client);
        }
        if !matches!(holder.try_wait(), Ok(None)) {
            spinner.finish_and_clear();
            return Err(failure(directory).with_log(log.path()));
        }
        if start.elapsed() > patience {
            let seconds = patience.as_secs();
            return Err(
                Error::new(format!("the machine did not answer within {seconds} s"), "").with_log(log.path())
            );
        }
        spinner.set_message(format!("booting: {}", log.last_line()));
        thread::sleep(Duration::from_millis(200));
    }
}

fn failure(directory: &Path) -> Error {
    let told = fs::read_to_string(directory.join(FAILURE)).ok();
    match told.and_then(|text| serde_json::from_str::<Failure>(&text).ok()) {
        Some(Failure { what, remedy }) => Error::new(what, remedy),
        None => {
            let log = directory.join("holder.log");
            Error::new("the machine's background process ended", format!("read {}", log.display()))
        }
    }
}

/// Powers the machine off, and ends it by force where it does not obey. How it ended, where it said so.
pub fn stop(directory: &Path, patience: Duration) -> Result<Option<Outcome>> {
    let Some(holder) = process(directory) else {
        return Err(Error::new("no machine is running", "start one with `atoll up`"));
    };
    let asked = attach(directory).and_then(|client| client.stop(ExitCode::Success as u8));
    let ended = asked.is_ok() && ends_within(directory, patience);
    if !ended {
        leftovers::send(holder, Signal::TERM);
        if !ends_within(directory, Duration::from_secs(5)) {
            leftovers::send(holder, Signal::KILL);
        }
    }
    Ok(SerialLog::new(directory.join(SERIAL_LOG)).outcome())
}

fn ends_within(directory: &Path, patience: Duration) -> bool {
    let start = Instant::now();
    while process(directory).is_some() {
        if start.elapsed() > patience {
            return false;
        }
        thread::sleep(Duration::from_millis(50));
    }
    true
}
