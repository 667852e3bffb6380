//! A page of memory that two domains share.

use core::sync::atomic::{AtomicU64, Ordering};

use abi::address::PAGE_SIZE;

/// Words of a page.
pub const WORDS: usize = PAGE_SIZE as usize / 8;

/// A page of words that both sides may write at any time.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct SharedPage([AtomicU64; WORDS]);

impl SharedPage {
    /// All words zero.
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; WORDS])
    }

    /// Makes these bytes, and zeroes behind them, what the page holds.
    pub fn fill(&self, bytes: &[u8]) {
        let mut words = bytes.chunks(8);
        for place in &self.0 {
            let mut word = [0; 8];
            let chunk = words.next().unwrap_or_default();
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            place.store(u64::from_le_bytes(word), Ordering::Relaxed);
        }
    }

    /// The words. What the other side may write at the same time is loaded once, and then used.
    pub fn words(&self) -> &[AtomicU64; WORDS] {
        &self.0
    }

    /// What the page holds now.
    #[cfg(test)]
    pub fn bytes(&self) -> alloc::vec::Vec<u8> {
        self.0.iter().flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).collect()
    }
}

impl Default for SharedPage {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filling_leaves_nothing_of_before() {
        let page = SharedPage::new();
        page.fill(&[0xff; 4096]);
        page.fill(b"123456789");
        let bytes = page.bytes();
        assert_eq!(&bytes[..9], b"123456789");
        assert!(bytes[9..].iter().all(|byte| *byte == 0));
    }
}
