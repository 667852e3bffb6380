//! Rows with those who keep the console and the store: domain 0 on Atoll. On Xen the guest is domain 0 itself: its lines go
//! to the hypervisor, and nobody keeps a store for it.

use abi::xen::event_channel::Port;
use guest_kernel::platform::Platform;
use guest_kernel::platform::atoll::{Atoll, console, cpu, hypercall};
use guest_kernel::programs::measure::Row;
use guest_kernel::say;
use guest_kernel::xenstore::client::{Client, News};
use guest_kernel::xenstore::wire::PageEnd;
use io_rings::bytes::XenstorePage;

use crate::{print, rest};

/// Lines printed to measure one: the log is read by people too.
const LINES: usize = 100;
/// A line of 64 bytes.
const LINE: &[u8; 64] = b"a line of sixty-four bytes, its end included, to be measured ..\n";
/// How long the keeper gets to have a line out on the serial port.
const WRITING_MILLISECONDS: u64 = 10;
/// How long an answer may take.
const PATIENCE_MILLISECONDS: u64 = 1_000;

/// Measures and prints both.
pub fn measure(platform: &Atoll, store: Option<(&'static XenstorePage, Port)>, empty: u64) {
    lines(platform, empty);
    match store {
        Some((page, port)) => match reads(platform, page, port, empty) {
            Some(row) => print(row),
            None => say!("bench: xenstore_read: the store does not answer"),
        },
        None => say!("bench: xenstore_read: there is no store"),
    }
}

/// A line, until the guest may go on; and until the keeper has it, where that is not the hypervisor.
fn lines(platform: &Atoll, empty: u64) {
    let (mut sent, mut taken) =
        (Row::of("console_line", LINES, LINES / 10), Row::of("console_line_taken", LINES, LINES / 10));
    let writing = WRITING_MILLISECONDS * platform.ticks_per_millisecond();
    while !sent.is_complete() {
        console::drain(writing * LINES as u64);
        rest(writing);
        let before = cpu::tsc();
        console::write(LINE);
        sent.add(cpu::tsc().wrapping_sub(before).saturating_sub(empty), 1);
        console::drain(writing * LINES as u64);
        taken.add(cpu::tsc().wrapping_sub(before).saturating_sub(empty), 1);
    }
    print(sent);
    if console::port().is_some() {
        print(taken);
    }
}

/// From the request to the answer in hand.
fn reads(platform: &Atoll, page: &'static XenstorePage, port: Port, empty: u64) -> Option<Row> {
    let mut client = Client::new(PageEnd::guest(page));
    let patience = PATIENCE_MILLISECONDS * platform.ticks_per_millisecond();
    let mut row = Row::new("xenstore_read");
    while !row.is_complete() {
        let before = cpu::tsc();
        client.read(None, "domid");
        if client.moved() {
            hypercall::send(port).ok()?;
        }
        let answer = loop {
            if let Some(news) = client.poll().ok()? {
                break news;
            }
            if cpu::tsc().wrapping_sub(before) > patience {
                return None;
            }
            core::hint::spin_loop();
        };
        row.add(cpu::tsc().wrapping_sub(before).saturating_sub(empty), 1);
        if !matches!(answer, News::Answer { result: Ok(_), .. }) {
            return None;
        }
        platform.take_events(&mut |_| ());
    }
    Some(row)
}
