//! `shutdown` and `reboot`: a guest is asked, through `control/shutdown` in xenstore, and does it itself.

use std::time::{Duration, Instant};

use abi::control::wire::{Domain, Event, State};
use serde_json::{Value, json};

use super::list::state;
use crate::{
    control::Client,
    error::{Error, Result},
    output, progress,
};

/// Between two looks at the guest.
const LOOK: Duration = Duration::from_millis(500);

/// How long a guest that has stopped may take to come again, before it counts as one that does not.
const RETURN: Duration = Duration::from_secs(120);

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Power off.
    Shutdown,
    /// Reboot.
    Reboot,
}

/// What became of a guest that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Became {
    /// It stopped, and is there to be looked at.
    Stopped(State),
    /// It stopped and was destroyed.
    Gone,
    /// It was created again, as this domain.
    Restarted(u16),
}

/// Asks; with `wait` it returns when the guest has done it.
pub fn run(wish: Wish, name: &str, wait: bool, timeout: u64, as_json: bool) -> Result<()> {
    let client = super::attached()?;
    let became = if wait {
        Some(ask_and_wait(&client, wish, name, Duration::from_secs(timeout))?)
    } else {
        ask(&client, wish, name).map(|()| None)?
    };
    if as_json {
        output::say_json(
            &json!({ "name": name, "asked": asked(wish), "became": became.as_ref().map(in_json) }),
        );
        return Ok(());
    }
    output::say(match became {
        None => format!("asked {name} to {}", asked(wish)),
        Some(Became::Stopped(how)) => format!("{name}: {}", state(how)),
        Some(Became::Gone) => format!("{name}: stopped and destroyed"),
        Some(Became::Restarted(domain)) => format!("{name}: restarted as domain {domain}"),
    });
    Ok(())
}

fn asked(wish: Wish) -> &'static str {
    match wish {
        Wish::Shutdown => "shutdown",
        Wish::Reboot => "reboot",
    }
}

fn in_json(became: &Became) -> Value {
    match became {
        Became::Stopped(how) => json!({ "state": state(*how) }),
        Became::Gone => json!({ "state": "destroyed" }),
        Became::Restarted(domain) => json!({ "state": "restarted", "domain": domain }),
    }
}

fn ask(client: &Client, wish: Wish, name: &str) -> Result<()> {
    match wish {
        Wish::Shutdown => client.shutdown(name),
        Wish::Reboot => client.reboot(name),
    }
}

/// Asks and waits until the guest has done it: stopped, or come again.
pub fn ask_and_wait(client: &Client, wish: Wish, name: &str, patience: Duration) -> Result<Became> {
    let before = client.domain(name)?;
    ask(client, wish, name)?;
    let work = progress::spinner(format!("{} of {name}", asked(wish)));
    let became = wait(client, wish, &before, patience);
    work.finish_and_clear();
    became
}

/// Waits until a guest that was asked has stopped, and where it is to come again, until it has.
fn wait(client: &Client, wish: Wish, before: &Domain, patience: Duration) -> Result<Became> {
    let start = Instant::now();
    let mut stopped: Option<Instant> = None;
    loop {
        let now = client.list()?.into_iter().find(|domain| domain.name == before.name);
        let became = match now {
            None => Some(Became::Gone),
            Some(now) if now.id != before.id => return Ok(Became::Restarted(now.id)),
            Some(now) => (!matches!(now.state, State::Running | State::Paused | State::Kept))
                .then_some(Became::Stopped(now.state)),
        };
        match became {
            // Between its end and its next life a guest that reboots looks like one that stays stopped.
            Some(became) => {
                let since = *stopped.get_or_insert_with(Instant::now);
                if wish == Wish::Shutdown || since.elapsed() > RETURN {
                    return Ok(became);
                }
            }
            None if start.elapsed() > patience => {
                let (name, seconds) = (&before.name, patience.as_secs());
                return Err(Error::new(
                    format!("{name} was asked to {} and still runs after {seconds} s", asked(wish)),
                    format!("see `atoll console {name}`; `atoll destroy {name}` does not ask"),
                ));
            }
            None => {}
        }
        // An event about any guest is a reason to look at once.
        if let Some(Event::Restarted { name, domain: Err(refusal) }) = client.next_event(LOOK)
            && name == before.name
        {
            return Err(Error::from(refusal).during(format!("creating {name} again")));
        }
    }
}
