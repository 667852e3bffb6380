//! What xenstore has acknowledged is there: two guests write, begin their connections anew in the middle of requests, and
//! are destroyed while they write. What the one wrote to the other's nodes outlives it; what was its own goes with it.

use abi::control::wire::GuestConfig;
use ladder::{Check, Result, Stage, ensure, mesh, stage::no_guests, watch::until, wrong};
use toolstack::{
    config::{Config, guest},
    control::Client,
};

const FIRST: &str = "first";
const SECOND: &str = "second";
/// So far each is to come before somebody is destroyed: past several fresh beginnings.
const FAR: u64 = 300;

pub fn machine() -> Config {
    no_guests(3)
}

pub fn checks() -> Vec<Check> {
    vec![Check::new("r26_store::what_was_acknowledged_is_there", acknowledged_is_there)]
}

/// The last number that a guest has said is acknowledged.
fn acknowledged(client: &Client, name: &str) -> Result<u64> {
    let printed = mesh::printed(client, name)?;
    let wrongs: Vec<&str> = printed.lines().filter(|line| line.contains("WRONG")).collect();
    ensure!(wrongs.is_empty(), "{name} says {wrongs:?}");
    let numbers = printed.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let last =
        numbers.filter_map(|line| line.trim().strip_prefix("store: acknowledged ")?.parse().ok()).next_back();
    Ok(last.unwrap_or(0))
}

/// Waits until a guest is so much further.
fn goes_on(client: &Client, name: &str, more: u64) -> Result<u64> {
    let from = acknowledged(client, name)?;
    until(&format!("{more} more acknowledged writes of {name}"), || {
        let now = acknowledged(client, name)?;
        Ok((now >= from + more).then_some(now))
    })
}

/// The number in a node.
fn number(client: &Client, domain: u16, leaf: &str) -> Result<u64> {
    let path = format!("/local/domain/{domain}/data/board/{leaf}");
    let value = client.xenstore_node(&path)?.value;
    let text = String::from_utf8_lossy(&value);
    text.parse().map_err(|_| wrong(format!("{path} says `{text}`")))
}

fn create_second(client: &Client, peer: u16) -> Result<u16> {
    client.create(GuestConfig { command_line: format!("peer={peer}"), ..guest(SECOND, "store", 2) })?;
    Ok(client.domain(SECOND)?.id)
}

fn is_gone(client: &Client, domain: u16) -> Result<()> {
    let path = format!("/local/domain/{domain}");
    let left = client.xenstore_list("/local/domain")?;
    let left: Vec<_> = left.iter().filter(|node| node.path.starts_with(&path)).collect();
    ensure!(left.is_empty(), "{left:?} are there still");
    Ok(())
}

fn acknowledged_is_there(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    let free = client.machine()?.frames_free;
    client.create(guest(FIRST, "store", 1))?;
    let first = client.domain(FIRST)?.id;
    until("the first one's board", || {
        Ok(mesh::printed(client, FIRST)?.contains("has a board").then_some(()))
    })?;
    let second = create_second(client, first)?;
    goes_on(client, SECOND, FAR)?;

    // In the middle of its writing.
    let said = acknowledged(client, SECOND)?;
    client.destroy(SECOND)?;
    let kept = number(client, first, "guest")?;
    ensure!(kept >= said, "{said} was acknowledged, and {kept} is there");
    is_gone(client, second)?;
    goes_on(client, FIRST, FAR)?;
    ensure!(number(client, first, "guest")? == kept, "what the second one wrote did not stay");

    // One that comes after it finds a ring, and writes on.
    let second = create_second(client, first)?;
    goes_on(client, SECOND, FAR)?;
    let said = acknowledged(client, FIRST)?;
    ensure!(number(client, first, "own")? >= said, "{said} was acknowledged of the first");
    client.destroy(FIRST)?;
    is_gone(client, first)?;
    until("that it is noticed", || {
        Ok(mesh::printed(client, SECOND)?.contains("the peer is gone").then_some(()))
    })?;
    let said = goes_on(client, SECOND, FAR)?;
    ensure!(number(client, second, "own")? >= said, "{said} was acknowledged of the second");
    client.destroy(SECOND)?;
    mesh::audit(client)?;
    let now = client.machine()?.frames_free;
    ensure!(now == free, "{free} frames were free before them, and {now} after");
    Ok(())
}
