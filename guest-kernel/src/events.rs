//! Event channels as the receiving guest sees them: Xen's 2-level ABI in the shared-info page.
//!
//! The page is a struct of atomics: the hypervisor sets bits at any moment, and any bits are valid. A port is found
//! in three steps: the vCPU's pending byte says that there is news, its selector says in which words, and a word says
//! which ports. Each level is cleared before the one below is read, so an event that arrives meanwhile sets it again.

use abi::xen::event_channel::Port;
use abi::xen::shared_info::{self, EVTCHN_2L_PORTS, vcpu_info};
use core::sync::atomic::{AtomicU64, Ordering};

/// First word of the pending bits.
const PENDING: usize = shared_info::EVTCHN_PENDING / 8;
/// First word of the mask bits.
const MASK: usize = shared_info::EVTCHN_MASK / 8;
/// The vCPU's pending byte: the lowest of the word it lies in.
const UPCALL_PENDING_BITS: u64 = 0xff << (8 * (vcpu_info::UPCALL_PENDING % 8));

/// The shared-info page, seen from virtual CPU 0, the only one most guest kernels have.
#[repr(C, align(4096))]
pub struct SharedInfo {
    words: [AtomicU64; 512],
}

impl SharedInfo {
    /// A page of zeroes: no events, nothing masked.
    pub const fn new() -> Self {
        Self { words: [const { AtomicU64::new(0) }; 512] }
    }

    fn flags(&self) -> &AtomicU64 {
        self.word_of(0, vcpu_info::UPCALL_PENDING)
    }

    fn selector(&self) -> &AtomicU64 {
        self.word_of(0, vcpu_info::PENDING_SEL)
    }

    /// A word of the `vcpu_info` of a virtual CPU that has it in this page.
    fn word_of(&self, vcpu: usize, offset: usize) -> &AtomicU64 {
        let vcpu = vcpu % shared_info::LEGACY_MAX_VCPUS;
        &self.words[(shared_info::VCPU_INFO + vcpu * shared_info::VCPU_INFO_SIZE + offset) / 8]
    }

    /// Whether a port is pending.
    pub fn is_pending(&self, port: Port) -> bool {
        place(port).is_some_and(|(word, bit)| self.words[PENDING + word].load(Ordering::SeqCst) & bit != 0)
    }

    /// Takes the news of a virtual CPU that listens to this port and to no other: whether it was pending. News of others
    /// in the same word are not told of again.
    #[inline]
    pub fn take_port(&self, vcpu: usize, port: Port) -> bool {
        let flags = self.word_of(vcpu, vcpu_info::UPCALL_PENDING);
        if flags.load(Ordering::Acquire) & UPCALL_PENDING_BITS == 0 {
            return false;
        }
        flags.fetch_and(!UPCALL_PENDING_BITS, Ordering::SeqCst);
        self.word_of(vcpu, vcpu_info::PENDING_SEL).store(0, Ordering::SeqCst);
        let Some((word, bit)) = place(port) else { return false };
        self.words[PENDING + word].fetch_and(!bit, Ordering::SeqCst) & bit != 0
    }

    /// Whether there is news. One load.
    #[inline]
    pub fn pending(&self) -> bool {
        self.flags().load(Ordering::Acquire) & UPCALL_PENDING_BITS != 0
    }

    /// Takes all news: clears what is pending and not masked, and names each port.
    pub fn take(&self, each: &mut dyn FnMut(Port)) {
        if !self.pending() {
            return;
        }
        self.flags().fetch_and(!UPCALL_PENDING_BITS, Ordering::SeqCst);
        for group in bits(self.selector().swap(0, Ordering::SeqCst)) {
            let pending = &self.words[PENDING + group as usize];
            let news =
                pending.load(Ordering::Acquire) & !self.words[MASK + group as usize].load(Ordering::Acquire);
            pending.fetch_and(!news, Ordering::SeqCst);
            for bit in bits(news) {
                each(group * 64 + bit);
            }
        }
    }

    /// Keeps `port` from being news until it is unmasked. A port that does not exist is ignored.
    pub fn mask(&self, port: Port) {
        if let Some((word, bit)) = place(port) {
            self.words[MASK + word].fetch_or(bit, Ordering::SeqCst);
        }
    }

    /// Lets `port` be news again, at once if it became pending meanwhile.
    pub fn unmask(&self, port: Port) {
        let Some((word, bit)) = place(port) else { return };
        self.words[MASK + word].fetch_and(!bit, Ordering::SeqCst);
        if self.words[PENDING + word].load(Ordering::SeqCst) & bit != 0 {
            // What the hypervisor did not do while the port was masked; this kernel looks before it halts.
            self.raise(word);
        }
    }

    /// Forgets an event of `port` that was not taken: for a port about to be closed and used for something else.
    pub fn clear(&self, port: Port) {
        if let Some((word, bit)) = place(port) {
            self.words[PENDING + word].fetch_and(!bit, Ordering::SeqCst);
        }
    }

    /// Sets `port` pending, as the hypervisor does when the peer sends: for platforms without one.
    pub fn send(&self, port: Port) {
        let Some((word, bit)) = place(port) else { return };
        let before = self.words[PENDING + word].fetch_or(bit, Ordering::SeqCst);
        if before & bit == 0 && self.words[MASK + word].load(Ordering::SeqCst) & bit == 0 {
            self.raise(word);
        }
    }

    fn raise(&self, word: usize) {
        self.selector().fetch_or(1 << word, Ordering::SeqCst);
        self.flags().fetch_or(1, Ordering::SeqCst);
    }
}

impl Default for SharedInfo {
    fn default() -> Self {
        Self::new()
    }
}

/// The word and the bit of a port that exists.
fn place(port: Port) -> Option<(usize, u64)> {
    (port < EVTCHN_2L_PORTS).then_some((port as usize / 64, 1 << (port % 64)))
}

/// The numbers of the bits set in `word`, lowest first.
fn bits(word: u64) -> impl Iterator<Item = u32> {
    core::iter::successors(Some(word), |rest| Some(rest & rest.wrapping_sub(1)))
        .take_while(|&rest| rest != 0)
        .map(u64::trailing_zeros)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    fn taken(page: &SharedInfo) -> Vec<Port> {
        let mut ports = vec![];
        page.take(&mut |port| ports.push(port));
        ports
    }

    #[test]
    fn every_port_arrives_once() {
        let page = SharedInfo::new();
        for port in [0, 63, 64, 4095, 64] {
            page.send(port);
        }
        assert!(page.pending());
        assert_eq!(taken(&page), [0, 63, 64, 4095]);
        assert!(taken(&page).is_empty());
    }

    #[test]
    fn a_masked_port_waits_for_its_unmasking() {
        let page = SharedInfo::new();
        page.mask(70);
        page.send(70);
        page.send(71);
        assert_eq!(taken(&page), [71]);
        page.unmask(70);
        assert_eq!(taken(&page), [70]);
        page.unmask(70);
        assert!(!page.pending());
    }

    #[test]
    fn a_port_that_is_known_is_taken_alone() {
        let page = SharedInfo::new();
        page.send(3);
        assert!(page.is_pending(3) && !page.take_port(1, 3), "the other one has no news");
        assert!(page.take_port(0, 3) && !page.is_pending(3) && !page.pending());
        assert!(!page.take_port(0, 3));
        page.send(4);
        assert!(!page.take_port(0, u32::MAX) && page.is_pending(4) && !page.is_pending(u32::MAX));
    }

    #[test]
    fn ports_that_do_not_exist_do_no_harm() {
        let page = SharedInfo::new();
        page.send(4096);
        page.mask(u32::MAX);
        page.unmask(u32::MAX);
        assert!(!page.pending());
    }
}
