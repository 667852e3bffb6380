//! The pages that are granted, and the words by which the two sides talk.

use core::sync::atomic::{AtomicU64, Ordering};

/// Where this guest has its grant table: a window above all RAM, below those of the mesh.
pub const TABLE: u64 = 0xe800_0000;
/// Where it has others' pages.
pub const WINDOW: u64 = TABLE + 0x1_0000;
/// How many.
pub const WINDOW_PAGES: u64 = 128;

/// References of the granter's pages, in the order in which a fresh table gives them out.
pub const TALK: u32 = 8;
pub const CONSTANT: u32 = 9;
pub const LOAN: u32 = 10;

/// Words of the page for talk: what is asked for, and how often something was done.
pub const ASK: usize = 0;
pub const DONE: usize = 1;
/// What the last of it came to.
pub const RESULT: usize = 2;
/// From here on the page says what [`pattern`] says.
pub const DATA: usize = 8;

/// The page for talk is mapped now.
pub const HELLO: u64 = 3;
/// Take back the page for talk, which is in use.
pub const REVOKE_TALK: u64 = 1;
/// Take back the loan.
pub const REVOKE_LOAN: u64 = 2;

/// A page of this guest's own.
#[repr(C, align(4096))]
pub struct Page(pub [AtomicU64; 512]);

impl Page {
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; 512])
    }

    /// Its frame number: RAM is mapped at its own addresses.
    pub fn frame(&'static self) -> u64 {
        core::ptr::from_ref(self) as u64 / 4096
    }
}

/// A page at an address.
///
/// # Safety
/// There is one, as long as the reference is used.
pub const unsafe fn at(address: u64) -> &'static Page {
    // SAFETY: by the caller.
    unsafe { &*(address as *const Page) }
}

/// Word `index` of a page that was filled by `seed`.
pub const fn pattern(seed: u64, index: usize) -> u64 {
    (seed << 32 | index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

pub fn fill(page: &Page, seed: u64) {
    for (index, word) in page.0.iter().enumerate().skip(DATA) {
        word.store(pattern(seed, index), Ordering::Relaxed);
    }
}

pub fn is_filled(page: &Page, seed: u64) -> bool {
    let mut words = page.0.iter().enumerate().skip(DATA);
    words.all(|(index, word)| word.load(Ordering::Relaxed) == pattern(seed, index))
}
