//! `console`: a guest's console on this terminal. Ctrl-] detaches, as with `xl console`.
//!
//! A guest that reboots comes back on the same console. For scripts there is [`Script`]: a line is typed, and what the
//! guest prints is printed until it has said a word.

use std::{
    io::{IsTerminal, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use abi::control::wire::Event;
use crossterm::terminal;

use super::list::state;
use crate::{
    control::{Client, Console},
    error::{At, Error, Result},
    output,
};

/// Ctrl-].
const DETACH: u8 = 0x1d;
/// How soon a guest that is to come again is created after its end.
const RETURN: Duration = Duration::from_secs(10);

/// What is done without a person at the keys.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// Typed, with Enter behind it.
    pub input: Option<String>,
    /// Awaited among what is printed from then on.
    pub until: Option<String>,
    /// Seconds that may take.
    pub timeout: u64,
}

/// What is printed of a console that is not attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dump {
    /// What the guest has printed.
    Life,
    /// The same, and what it printed before it was restarted.
    All,
}

/// Attaches; with `dump` it prints what is there, and ends.
pub fn run(name: &str, dump: Option<Dump>, script: &Script) -> Result<()> {
    let client = super::attached()?;
    client.domain(name)?;
    if let Some(dump) = dump {
        let mut console = match dump {
            Dump::Life => Console::new(&client, name),
            Dump::All => Console::with_history(&client, name),
        };
        output::say_bytes(&console.read(false)?);
        return Ok(());
    }
    if script.input.is_some() || script.until.is_some() {
        return play(&client, name, script);
    }
    attach(client, name)
}

/// Types, and prints until the awaited word has come. Without input all that the guest ever printed counts.
fn play(client: &Client, name: &str, script: &Script) -> Result<()> {
    let mut console = Console::new(client, name);
    if let Some(input) = &script.input {
        console.read(false)?;
        client.input(name, format!("{input}\n").as_bytes())?;
    }
    let Some(until) = &script.until else { return Ok(()) };
    let (start, mut seen) = (Instant::now(), Vec::new());
    loop {
        let new = console.read(false)?;
        output::say_bytes(&new);
        seen.extend(new);
        if contains(&seen, until.as_bytes()) {
            return Ok(());
        }
        let now = client.domain(name)?.state;
        if now != abi::control::wire::State::Running {
            return Err(Error::new(format!("{name} is {} and did not print `{until}`", state(now)), ""));
        }
        if start.elapsed() > Duration::from_secs(script.timeout) {
            let what = format!("{name} did not print `{until}` within {} s", script.timeout);
            return Err(Error::new(what, "--timeout SECONDS waits longer"));
        }
        client.next_event(Duration::from_millis(200));
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    word.is_empty() || text.windows(word.len()).any(|window| window == word)
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
    let mut ended: Option<Instant> = None;
    while !detached.load(Ordering::SeqCst) && !client.is_closed() {
        if ended.is_some_and(|ended| ended.elapsed() > RETURN) {
            break;
        }
        let Some(event) = console.wait(Duration::from_millis(100)) else { continue };
        print(&console.bytes_of(&event)?, terminal);
        match event {
            Event::Stopped { name: stopped, state: how } if stopped == name => {
                // A guest that was destroyed at once has no console any more.
                print(&console.read(false).unwrap_or_default(), terminal);
                print(format!("\n{name}: {}\n", state(how)).as_bytes(), terminal);
                ended = Some(Instant::now());
            }
            Event::Restarted { name: restarted, domain: Ok(_) } if restarted == name => {
                ended = None;
                // It goes on where the old one's ended.
                print(&console.read(true)?, terminal);
            }
            Event::Restarted { name: restarted, domain: Err(refusal) } if restarted == name => {
                return Err(Error::from(refusal).during(format!("creating {name} again")));
            }
            _ => {}
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
        if byte == b'\n' && out.last() != Some(&b'\r') {
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
