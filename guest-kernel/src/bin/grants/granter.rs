//! The side that grants, and takes back.

use core::hint;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use abi::xen::DomId;
use guest_kernel::grants::{Access, InUse, Reference, Table};
use guest_kernel::platform::atoll::{cpu, grants};
use guest_kernel::say;

use super::pages::{
    ASK, CONSTANT, DATA, DONE, HELLO, LOAN, Page, RESULT, REVOKE_LOAN, REVOKE_TALK, TABLE, TALK, fill,
    pattern,
};

static PAGES: [Page; 3] = [const { Page::new() }; 3];

pub fn run(own: DomId, ticks_per_millisecond: impl Fn() -> u64) {
    let words = match grants::table(TABLE) {
        Ok(words) => words,
        Err(error) => return say!("grants: WRONG: no table: {error:?}"),
    };
    let mut table = Table::new(words);
    let accesses = [Access::Write, Access::Read, Access::Write];
    for ((page, access), reference) in PAGES.iter().zip(accesses).zip([TALK, CONSTANT, LOAN]) {
        fill(page, reference.into());
        if table.grant(own + 1, page.frame() as u32, access) != Some(Reference(reference)) {
            say!("grants: WRONG: another reference than {reference}");
        }
    }
    say!("grants: domain {own} grants to domain {}", own + 1);
    let talk = &PAGES[0].0;
    // That it is in use says little: a mapping that is refused for its address uses it for a moment, too.
    while talk[ASK].swap(0, Acquire) != HELLO {
        hint::spin_loop();
    }
    say!("grants: in use");
    let mut done = 0;
    // The user writes there while it can; its end shows in the entry alone.
    while table.is_used(Reference(TALK)) {
        if talk[DONE].load(Relaxed) == done {
            let revoked = match talk[ASK].swap(0, Acquire) {
                REVOKE_TALK => table.revoke(Reference(TALK)),
                REVOKE_LOAN => table.revoke(Reference(LOAN)),
                _ => continue,
            };
            done += 1;
            talk[RESULT].store(u64::from(revoked == Err(InUse)), Relaxed);
            talk[DONE].store(done, Release);
        }
        hint::spin_loop();
    }
    let kept = PAGES[1]
        .0
        .iter()
        .enumerate()
        .skip(DATA)
        .all(|(index, word)| word.load(Relaxed) == pattern(CONSTANT.into(), index));
    say!("grants: {} was let go, the constant page is {}", TALK, if kept { "as it was" } else { "WRONG" });
    let end = cpu::tsc() + ticks_per_millisecond();
    while cpu::tsc() < end {
        hint::spin_loop();
    }
    for reference in [TALK, CONSTANT] {
        if table.revoke(Reference(reference)).is_err() {
            say!("grants: WRONG: {reference} is used by nobody, and in use");
        }
    }
    say!("grants: all is taken back");
}
