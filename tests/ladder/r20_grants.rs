//! Two guests and their grants: mapped, copied, refused, taken back; and either dies while a page of the one is mapped by
//! the other. No page stays mapped after that, and none is given to anybody else before.

use abi::control::wire::GuestConfig;
use ladder::{Check, Result, Stage, ensure, mesh, stage::no_guests, watch::until};
use toolstack::{
    config::{Config, guest},
    control::Client,
};

const GRANTER: &str = "granter";
const USER: &str = "user";

pub fn machine() -> Config {
    no_guests(3)
}

pub fn checks() -> Vec<Check> {
    vec![
        Check::new("r20_grants::the_user_dies_first", user_dies),
        Check::new("r20_grants::the_granter_dies_first", granter_dies),
    ]
}

/// Waits until a guest has said this.
fn said(client: &Client, name: &str, what: &str) -> Result<String> {
    until(&format!("`{what}` of {name}"), || {
        let printed = mesh::printed(client, name)?;
        Ok(printed.lines().find(|line| line.contains(what)).map(str::to_owned))
    })
}

fn none_wrong(client: &Client, name: &str) -> Result<()> {
    let printed = mesh::printed(client, name)?;
    let wrongs: Vec<&str> = printed.lines().filter(|line| line.contains("WRONG")).collect();
    ensure!(wrongs.is_empty(), "{name} says {wrongs:?}");
    Ok(())
}

/// Both are there, and the user has done all that it does.
fn begin(client: &Client) -> Result<()> {
    client.create(guest(GRANTER, "grants", 1))?;
    let peer = client.domain(GRANTER)?.id;
    said(client, GRANTER, &format!("grants to domain {}", peer + 1))?;
    client.create(GuestConfig { command_line: format!("peer={peer}"), ..guest(USER, "grants", 2) })?;
    let verdict = said(client, USER, " wrong")?;
    for name in [USER, GRANTER] {
        none_wrong(client, name)?;
    }
    ensure!(verdict.ends_with(" 0 wrong"), "{verdict}");
    let report = mesh::audit(client)?;
    ensure!(report.shared > 0, "the user has nothing mapped: {report:?}");
    Ok(())
}

fn user_dies(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    let free = client.machine()?.frames_free;
    begin(client)?;
    client.destroy(USER)?;
    mesh::audit(client)?;
    said(client, GRANTER, "all is taken back")?;
    none_wrong(client, GRANTER)?;
    client.destroy(GRANTER)?;
    ends(client, free)
}

fn granter_dies(stage: &mut Stage) -> Result<()> {
    let client = &stage.session()?.client;
    let free = client.machine()?.frames_free;
    begin(client)?;
    let before_user = client.domain(USER)?;
    client.destroy(GRANTER)?;
    // Its memory is free but for the page that the user still has.
    let report = mesh::audit(client)?;
    ensure!(report.shared > 0, "the page is gone: {report:?}");
    client.create(guest("another", "hello", 1))?;
    said(client, USER, "its page went by")?;
    none_wrong(client, USER)?;
    ensure!(client.domain(USER)?.state == before_user.state, "the user did not outlive the granter");
    mesh::audit(client)?;
    client.destroy("another")?;
    client.destroy(USER)?;
    ends(client, free)
}

fn ends(client: &Client, free: u64) -> Result<()> {
    mesh::audit(client)?;
    let now = client.machine()?.frames_free;
    ensure!(now == free, "{free} frames were free before they came, and {now} after they went");
    Ok(())
}
