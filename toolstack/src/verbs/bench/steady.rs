//! What running costs: exits a second in two guests that exchange messages by polling.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::super::list::exits;
use crate::{
    config::guest,
    error::{Error, Result},
    session::Session,
};

const NAMES: [&str; 2] = ["steady1", "steady2"];
const SAMPLES: usize = 5;
/// One sample's length.
const SPAN: Duration = Duration::from_secs(1);

/// The median over the samples, and how many there were.
pub(super) fn measure(session: &Session) -> Result<(u64, u64)> {
    for (name, core) in NAMES.iter().zip(1..) {
        session.client.destroy(&format!("bench{core}"))?;
        session.client.create(guest(name, "mesh", core))?;
    }
    let patience = session.machine.kind().boot_patience();
    let start = Instant::now();
    while sample(session)?.1 < 100 {
        if start.elapsed() > patience {
            return Err(Error::new("the two guests exchange no messages", "read the serial log"));
        }
        thread::sleep(SPAN);
    }
    let mut rates = Vec::new();
    let (mut before, mut messages_before) = sample(session)?;
    while rates.len() < SAMPLES && start.elapsed() < patience {
        let since = Instant::now();
        thread::sleep(SPAN);
        let (now, messages) = sample(session)?;
        // A span without a message would prove nothing.
        if messages > messages_before {
            let rate = now.saturating_sub(before) as f64 / since.elapsed().as_secs_f64();
            rates.push(rate.round() as u64);
        }
        (before, messages_before) = (now, messages);
    }
    rates.sort_unstable();
    let median = rates.get(rates.len() / 2).copied();
    let median = median
        .ok_or_else(|| Error::new("the two guests stopped exchanging messages", "read the serial log"))?;
    Ok((median, rates.len() as u64))
}

/// Exits of both guests so far, and messages received by both.
fn sample(session: &Session) -> Result<(u64, u64)> {
    let domains = session.client.list()?;
    let ours = domains.iter().filter(|domain| NAMES.contains(&domain.name.as_str()));
    Ok(ours.fold((0, 0), |(all, messages), domain| (all + exits(domain), messages + domain.messages_in)))
}
