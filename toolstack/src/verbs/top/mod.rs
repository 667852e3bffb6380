//! `top`: what every domain does, a second at a time.

mod page;

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use abi::control::wire::{Domain, Machine};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use crate::{
    control::Client,
    error::{At, Error, Result},
    holder,
};

/// How long a page stays.
const SPAN: Duration = Duration::from_secs(1);

/// What one page is drawn from.
struct Snapshot {
    taken: Instant,
    machine: Machine,
    domains: Vec<Domain>,
}

impl Snapshot {
    fn take(client: &Client) -> Result<Self> {
        let (machine, domains) = (client.machine()?, client.list()?);
        Ok(Self { taken: Instant::now(), machine, domains })
    }
}

/// Draws pages until `q`.
pub fn run() -> Result<()> {
    if !std::io::stdout().is_terminal() {
        return Err(Error::new("`top` wants a terminal", "use `atoll list --json` in scripts"));
    }
    let client = super::attached()?;
    let title = holder::order(&holder::directory())?.kind.name();
    let mut old = Snapshot::take(&client)?;
    let mut terminal = ratatui::try_init().at("taking over", "the terminal")?;
    let result = (|| {
        let (mut new, mut scroll) = (Snapshot::take(&client)?, 0_usize);
        loop {
            let page = page::Page::new(title, &old, &new, scroll);
            terminal.draw(|frame| page.draw(frame)).at("drawing on", "the terminal")?;
            let left = SPAN.saturating_sub(new.taken.elapsed());
            if !event::poll(left).at("reading from", "the terminal")? {
                old = std::mem::replace(&mut new, Snapshot::take(&client)?);
                continue;
            }
            match pressed(&event::read().at("reading from", "the terminal")?) {
                Key::Quit => return Ok(()),
                Key::Up => scroll = scroll.saturating_sub(1),
                Key::Down => scroll = (scroll + 1).min(new.domains.len().saturating_sub(1)),
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
    None,
}

fn pressed(event: &Event) -> Key {
    let Event::Key(key) = event else { return Key::None };
    match key.code {
        _ if key.kind != KeyEventKind::Press => Key::None,
        KeyCode::Char('q') | KeyCode::Esc => Key::Quit,
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Key::Quit,
        KeyCode::Up | KeyCode::Char('k') => Key::Up,
        KeyCode::Down | KeyCode::Char('j') => Key::Down,
        _ => Key::None,
    }
}
