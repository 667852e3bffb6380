//! A guest that writes to xenstore without end, to its own board and, with `peer=N`, to domain N's; and begins its
//! connection anew every now and then.
//!
//! It says `store: acknowledged N` when the store has answered that N is written on both, and `store: WRONG: WHAT` where
//! something that was acknowledged is not there. When its peer is gone it says so, and goes on alone.
#![no_std]
#![no_main]

extern crate alloc;

use abi::xen::DomId;
use abi::xen::event_channel::Port;
use abi::xen::xs_wire::{Error, connection, kind};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use guest_kernel::platform::atoll::{Started, hypercall};
use guest_kernel::say;
use guest_kernel::xenstore::client::{Client, News};
use guest_kernel::xenstore::wire::PageEnd;
use io_rings::bytes::XenstorePage;

guest_kernel::main!(run);

/// So often it says how far it is, and so often it begins anew.
const TELLS: u64 = 100;
const ANEW: u64 = 30;
/// Its own board, and what it writes there.
const BOARD: &str = "data/board";

struct Line {
    page: &'static XenstorePage,
    port: Port,
    client: Client<PageEnd>,
}

impl Line {
    /// Asks, and waits for the answer.
    fn ask(&mut self, kind: u32, payload: &[&[u8]]) -> Result<Vec<u8>, Error> {
        let asked = self.client.ask(None, kind, payload);
        loop {
            if self.client.moved() {
                // That the port is closed shows in there being no answer.
                let _ = hypercall::send(self.port);
            }
            match self.client.poll() {
                Ok(Some(News::Answer { ticket, result })) if ticket == asked => return result,
                Ok(_) => core::hint::spin_loop(),
                Err(_) => {
                    say!("store: WRONG: the ring is broken");
                    return Err(Error::EIO);
                }
            }
        }
    }

    fn write(&mut self, path: &str, value: &str) -> Result<(), Error> {
        self.ask(kind::WRITE, &[path.as_bytes(), b"\0", value.as_bytes()]).map(drop)
    }

    fn read(&mut self, path: &str) -> Option<String> {
        self.ask(kind::READ, &[path.as_bytes(), b"\0"]).ok().and_then(|value| String::from_utf8(value).ok())
    }

    /// A fresh beginning of the ring, in the middle of a request.
    fn begin_anew(&mut self) {
        self.client.read(None, BOARD);
        self.page.set_connection(connection::RECONNECT);
        let _ = hypercall::send(self.port);
        while self.page.connection() != connection::CONNECTED {
            core::hint::spin_loop();
        }
        self.client = Client::new(PageEnd::guest(self.page));
    }
}

fn run(started: Started) -> ! {
    let Started { handover, domain, store, .. } = started;
    let own = domain.unwrap_or(0);
    let mut peer: Option<DomId> = handover.option("peer").and_then(|peer| peer.parse().ok());
    let Some((page, port)) = store else {
        say!("store: WRONG: no store here");
        hypercall::shutdown(abi::xen::sched::reason::CRASH)
    };
    let mut line = Line { page, port, client: Client::new(PageEnd::guest(page)) };
    // Others may write there.
    let permissions = format!("{BOARD}\0b{own}\0");
    let made = line.write(&format!("{BOARD}/guest"), "0");
    let opened = line.ask(kind::SET_PERMS, &[permissions.as_bytes()]);
    let node = line.ask(kind::SET_PERMS, &[format!("{BOARD}/guest\0b{own}\0").as_bytes()]);
    if made.is_err() || opened.is_err() || node.is_err() {
        say!("store: WRONG: no board: {made:?}, {opened:?}, {node:?}");
    }
    say!("store: domain {own} has a board");
    for number in 1u64.. {
        let value = number.to_string();
        if let Err(error) = line.write(&format!("{BOARD}/own"), &value) {
            say!("store: WRONG: {number} is refused: {error:?}");
        }
        if let Some(id) = peer
            && let Err(error) = line.write(&format!("/local/domain/{id}/{BOARD}/guest"), &value)
        {
            peer = None;
            say!("store: the peer is gone: {error:?}");
        }
        if number.is_multiple_of(ANEW) {
            line.begin_anew();
            if line.read(&format!("{BOARD}/own")).as_ref() != Some(&value) {
                say!("store: WRONG: {number} was acknowledged and is not there");
            }
        }
        if number.is_multiple_of(TELLS) {
            say!("store: acknowledged {number}");
        }
    }
    hypercall::shutdown(abi::xen::sched::reason::POWEROFF)
}
