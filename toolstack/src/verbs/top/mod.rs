//! `top`: what every domain does, a second at a time; and on request what every task does.

mod json;
mod page;
mod tasks;

use std::{
    io::IsTerminal,
    thread,
    time::{Duration, Instant},
};

use abi::control::wire::{Account, Domain, Machine};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use crate::{
    control::Client,
    error::{At, Error, Result},
    holder, output,
};

/// How long a page stays.
const SPAN: Duration = Duration::from_secs(1);
/// How long a guest has to tell its accounts when they are wanted at once, and how often it is asked meanwhile.
const ANSWER: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(100);

/// What one page is drawn from.
struct Snapshot {
    taken: Instant,
    machine: Machine,
    domains: Vec<Domain>,
    /// For each domain the accounts it told, if they were asked for and it tells any.
    accounts: Vec<Option<Vec<Account>>>,
}

impl Snapshot {
    /// What there is now; the accounts are those of the time before, which is a second ago.
    fn take(client: &Client, tasks: bool) -> Result<Self> {
        let (machine, domains) = (client.machine()?, client.list()?);
        let told = |domain: &Domain| client.accounts(&domain.name).ok().map(|(_, accounts)| accounts);
        let accounts = domains.iter().map(|domain| if tasks { told(domain) } else { None }).collect();
        Ok(Self { taken: Instant::now(), machine, domains, accounts })
    }

    /// The same, with accounts that were told after it was asked for.
    fn fresh(client: &Client) -> Result<Self> {
        let mut snapshot = Self::take(client, false)?;
        for (domain, accounts) in snapshot.domains.iter().zip(&mut snapshot.accounts) {
            *accounts = fresh(client, &domain.name);
        }
        Ok(snapshot)
    }
}

/// The accounts of a guest, as it tells them now; none if it tells none.
fn fresh(client: &Client, name: &str) -> Option<Vec<Account>> {
    let (before, _) = client.accounts(name).ok()?;
    let begun = Instant::now();
    while begun.elapsed() < ANSWER {
        thread::sleep(AGAIN);
        let (told, accounts) = client.accounts(name).ok()?;
        if told > before {
            return Some(accounts);
        }
    }
    None
}

/// Draws pages until `q`; or prints one as JSON.
pub fn run(tasks: bool, as_json: bool) -> Result<()> {
    if as_json {
        let client = super::attached()?;
        let old = Snapshot::fresh(&client)?;
        thread::sleep(SPAN);
        output::say_json(&json::page(&old, &Snapshot::fresh(&client)?));
        return Ok(());
    }
    if !std::io::stdout().is_terminal() {
        return Err(Error::new("`top` wants a terminal", "use `atoll top --json` in scripts"));
    }
    let client = super::attached()?;
    let title = holder::order(&holder::directory())?.kind.name();
    let mut tasks = tasks;
    let mut old = Snapshot::take(&client, tasks)?;
    let mut terminal = ratatui::try_init().at("taking over", "the terminal")?;
    let result = (|| {
        let (mut new, mut scroll) = (Snapshot::take(&client, tasks)?, 0_usize);
        loop {
            let page = page::Page::new(title, &old, &new, scroll, tasks);
            terminal.draw(|frame| page.draw(frame)).at("drawing on", "the terminal")?;
            let left = SPAN.saturating_sub(new.taken.elapsed());
            if !event::poll(left).at("reading from", "the terminal")? {
                old = std::mem::replace(&mut new, Snapshot::take(&client, tasks)?);
                continue;
            }
            match pressed(&event::read().at("reading from", "the terminal")?) {
                Key::Quit => return Ok(()),
                Key::Up => scroll = scroll.saturating_sub(1),
                Key::Down => scroll = (scroll + 1).min(new.domains.len().saturating_sub(1)),
                Key::Tasks => tasks = !tasks,
                Key::None => {}
            }
        }
    })();
    ratatui::restore();
    result
}

enum Key {
    Quit,
    Up,
    Down,
    Tasks,
    None,
}

fn pressed(event: &Event) -> Key {
    let Event::Key(key) = event else { return Key::None };
    match key.code {
        _ if key.kind != KeyEventKind::Press => Key::None,
        KeyCode::Char('q') | KeyCode::Esc => Key::Quit,
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Key::Quit,
        KeyCode::Char('t') => Key::Tasks,
        KeyCode::Up | KeyCode::Char('k') => Key::Up,
        KeyCode::Down | KeyCode::Char('j') => Key::Down,
        _ => Key::None,
    }
}
