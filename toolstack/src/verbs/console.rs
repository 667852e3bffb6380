//! `console`: a guest's console on this terminal. Ctrl-] detaches, as with `xl console`.

use std::{
    io::{IsTerminal, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use abi::control::wire::Event;
use crossterm::terminal;

use super::list::state;
use crate::{
    control::{Client, Console},
    error::{At, Result},
    output,
};

/// Ctrl-].
const DETACH: u8 = 0x1d;

/// Attaches; with `dump` it prints what is there, and ends.
pub fn run(name: &str, dump: bool) -> Result<()> {
    let client = super::attached()?;
    client.domain(name)?;
    if dump {
        output::say_bytes(&Console::new(&client, name).read(false)?);
        return Ok(());
    }
    attach(client, name)
}

/// Attaches until the detaching key, or until the guest has ended for good.
pub fn attach(client: Client, name: &str) -> Result<()> {
    let client = Arc::new(client);
    let mut console = Console::new(&client, name);
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if terminal {
        eprintln!("attached to {name}; Ctrl-] detaches");
    }
    let _raw = Raw::enter(terminal)?;
    let detached = Arc::new(AtomicBool::new(false));
    let (keys_client, keys_name, keys_detached) =
        (Arc::clone(&client), name.to_owned(), Arc::clone(&detached));
    thread::spawn(move || pass_keys(&keys_client, &keys_name, terminal, &keys_detached));
    print(&console.read(true)?, terminal);
    while !detached.load(Ordering::SeqCst) && !client.is_closed() {
        let Some(event) = console.wait(Duration::from_millis(100)) else { continue };
        print(&console.bytes_of(&event)?, terminal);
        if let Event::Stopped { name: stopped, state: how } = event
            && stopped == name
        {
            print(&console.read(false)?, terminal);
            print(format!("\n{name}: {}\n", state(how)).as_bytes(), terminal);
            break;
        }
    }
    Ok(())
}

/// Types on until the detaching key. Without a terminal the end of the input is not the end of the console.
fn pass_keys(client: &Client, name: &str, terminal: bool, detached: &AtomicBool) {
    let mut keys = [0; 256];
    while let Ok(count @ 1..) = std::io::stdin().lock().read(&mut keys) {
        let typed = keys.get(..count).unwrap_or_default();
        let end = typed.iter().position(|&key| terminal && key == DETACH);
        let typed = typed.get(..end.unwrap_or(count)).unwrap_or_default();
        if !typed.is_empty() && client.input(name, typed).is_err() {
            break;
        }
        if end.is_some() {
            detached.store(true, Ordering::SeqCst);
            break;
        }
    }
}

/// Prints; a raw terminal wants a carriage return with each new line.
fn print(bytes: &[u8], raw: bool) {
    if !raw {
        return output::say_bytes(bytes);
    }
    let mut out = Vec::with_capacity(bytes.len() + 16);
    for &byte in bytes {
        if byte == b'\n' {
            out.push(b'\r');
        }
        out.push(byte);
    }
    output::say_bytes(&out);
}

/// A raw terminal, which is itself again when this is dropped.
struct Raw(bool);

impl Raw {
    fn enter(terminal: bool) -> Result<Self> {
        if terminal {
            terminal::enable_raw_mode().at("taking over", "the terminal")?;
        }
        Ok(Self(terminal))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if self.0 {
            // There is nobody left to tell.
            let _ = terminal::disable_raw_mode();
        }
    }
}
