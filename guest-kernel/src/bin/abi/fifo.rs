//! FIFO events: the switch to them, and events by priority. There is no way back but a reset, which would take the
//! console's port too: so these are the last checks of all.

use abi::xen::event_channel::fifo::{
    CONTROL_BLOCK_HEADS, LINK_BITS, LINK_MASK, LINKED, MASKED, PENDING, PRIORITY_DEFAULT, READY,
};
use abi::xen::event_channel::{
    CLOSE, EXPAND_ARRAY, INIT_CONTROL, InitControl, SEND, SET_PRIORITY, SetPriority, UNMASK,
};
use abi::xen::hypercall::EVENT_CHANNEL_OP;

use crate::call::{HOLE, frame, page_address, with};
use crate::events;
use crate::tally::{Error, Tally};

/// Pages of this program's: words, control block.
const WORDS: usize = 5;
const BLOCK: usize = 6;

fn init(vcpu: u32, control_gfn: u64, offset: u32) -> (u64, InitControl) {
    let mut argument = InitControl { control_gfn, offset, vcpu, ..InitControl::default() };
    (with(EVENT_CHANNEL_OP, INIT_CONTROL, &mut argument), argument)
}

fn expand(gfn: u64) -> u64 {
    with(EVENT_CHANNEL_OP, EXPAND_ARRAY, &mut [gfn])
}

fn prioritise(port: u32, priority: u32) -> u64 {
    with(EVENT_CHANNEL_OP, SET_PRIORITY, &mut SetPriority { port, priority })
}

/// A word of the control block or of a port.
fn word(at: u64) -> u32 {
    // SAFETY: this program's own pages.
    unsafe { (at as *const u32).read_volatile() }
}

fn set_word(at: u64, value: u32) {
    // SAFETY: this program's own pages.
    unsafe { (at as *mut u32).write_volatile(value) }
}

fn of_port(port: u32) -> u64 {
    page_address(WORDS) + u64::from(port) * 4
}

fn of_block(offset: usize) -> u64 {
    page_address(BLOCK) + offset as u64
}

/// Takes a queue's events out as the rules say; nobody else is at it.
fn take(queue: u8, mut port: u32) -> impl Iterator<Item = u32> {
    set_word(of_block(READY), word(of_block(READY)) & !(1 << queue));
    core::iter::from_fn(move || {
        let now = (port != 0).then_some(port)?;
        let before = word(of_port(now));
        set_word(of_port(now), before & !(PENDING | LINKED | LINK_MASK));
        port = before & LINK_MASK;
        Some(now)
    })
}

fn head(queue: u8) -> u32 {
    word(of_block(CONTROL_BLOCK_HEADS + usize::from(queue) * 4))
}

pub fn check(tally: &mut Tally) {
    // The console's port and others may have events at any time: all that is not of these checks is masked.
    for (page, value) in [(WORDS, MASKED), (BLOCK, 0)] {
        (0..1024).for_each(|index| set_word(page_address(page) + index * 4, value));
    }
    tally.check("expand_array before the switch", expand(frame(WORDS)), Err(Error::EOPNOTSUPP));
    tally.check("set_priority before the switch", prioritise(1, 7), Err(Error::ENOSYS));
    tally.check("init_control of nobody", init(1000, frame(BLOCK), 0).0, Err(Error::ENOENT));
    tally.check("init_control across pages", init(0, frame(BLOCK), 4096 - 64).0, Err(Error::EINVAL));
    tally.check("init_control, not aligned", init(0, frame(BLOCK), 4).0, Err(Error::EINVAL));
    tally.check("init_control in a hole", init(0, HOLE, 0).0, Err(Error::EINVAL));
    let (answer, argument) = init(0, frame(BLOCK), 0);
    tally.check("init_control", answer, Ok(0));
    tally.equal("bits of a link", argument.link_bits.into(), LINK_BITS.into());
    tally.check("init_control, once more", init(0, frame(WORDS), 0).0, Err(Error::EINVAL));
    let (_, early) = events::ipi(0);
    set_word(of_port(early), 0);
    events::one(SEND, early);
    tally.check("expand_array in a hole", expand(HOLE), Err(Error::EINVAL));
    tally.check("expand_array", expand(frame(WORDS)), Ok(0));
    let default = PRIORITY_DEFAULT;
    tally.equal("what waited for it", head(default).into(), early.into());
    tally.that("is in its queue", early.into(), take(default, head(default)).eq([early]));

    let (_, urgent) = events::ipi(0);
    let (_, other) = events::ipi(0);
    for port in [urgent, other] {
        set_word(of_port(port), 0);
    }
    tally.check("set_priority", prioritise(urgent, 0), Ok(0));
    tally.check("set_priority below the least", prioritise(urgent, 16), Err(Error::EINVAL));
    tally.check("set_priority of no port", prioritise(1 << 20, 7), Err(Error::EINVAL));
    for port in [other, early, urgent, other] {
        tally.check("send", events::one(SEND, port), Ok(0));
    }
    tally.equal("two queues are ready", word(of_block(READY)).into(), 1 << default | 1);
    tally.that("one has the urgent", urgent.into(), take(0, head(0)).eq([urgent]));
    tally.that("one the others, in turn", other.into(), take(default, head(default)).eq([other, early]));
    set_word(of_port(other), MASKED);
    events::one(SEND, other);
    tally.equal("a masked one waits", word(of_port(other)).into(), (PENDING | MASKED).into());
    tally.check("unmask", events::one(UNMASK, other), Ok(0));
    tally.that("then it comes", other.into(), take(default, head(default)).eq([other]));
    for port in [early, urgent, other] {
        events::one(CLOSE, port);
    }
}
