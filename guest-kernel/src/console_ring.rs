//! Xen's console ring (`io/console.h`): a page with one byte stream each way, between a guest and its console's keeper.
//!
//! The four indices run freely and are the only thing one side must believe of the other; a difference larger than
//! the ring is a lie, and reads as "nothing there" or "no room". Neither side notifies here: the caller sends the
//! event after a write or read that moved something.

use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// Bytes on their way to the guest.
pub const INPUT_BYTES: usize = 1024;
/// Bytes on their way from the guest.
pub const OUTPUT_BYTES: usize = 2048;

/// `xencons_interface`, followed by what fills the page. All zero is an empty console.
#[repr(C, align(4096))]
pub struct ConsolePage {
    input: [AtomicU8; INPUT_BYTES],
    output: [AtomicU8; OUTPUT_BYTES],
    in_cons: AtomicU32,
    in_prod: AtomicU32,
    out_cons: AtomicU32,
    out_prod: AtomicU32,
    reserved: [AtomicU8; 1008],
}

const _: () = assert!(size_of::<ConsolePage>() == 4096);

impl ConsolePage {
    /// An empty console.
    pub const fn new() -> Self {
        Self {
            input: [const { AtomicU8::new(0) }; INPUT_BYTES],
            output: [const { AtomicU8::new(0) }; OUTPUT_BYTES],
            in_cons: AtomicU32::new(0),
            in_prod: AtomicU32::new(0),
            out_cons: AtomicU32::new(0),
            out_prod: AtomicU32::new(0),
            reserved: [const { AtomicU8::new(0) }; 1008],
        }
    }

    /// Makes the page an empty console again. Neither side may be using it.
    pub fn reset(&self) {
        for byte in self.input.iter().chain(&self.output).chain(&self.reserved) {
            byte.store(0, Ordering::Relaxed);
        }
        for index in [&self.in_cons, &self.in_prod, &self.out_cons, &self.out_prod] {
            index.store(0, Ordering::Release);
        }
    }

    /// The guest prints: how many of `bytes` there was room for.
    pub fn guest_write(&self, bytes: &[u8]) -> usize {
        push(&self.output, &self.out_prod, &self.out_cons, bytes)
    }

    /// The guest reads what was typed: how many bytes of `into` were filled.
    pub fn guest_read(&self, into: &mut [u8]) -> usize {
        pop(&self.input, &self.in_prod, &self.in_cons, into)
    }

    /// The keeper types: how many of `bytes` there was room for.
    pub fn keeper_write(&self, bytes: &[u8]) -> usize {
        push(&self.input, &self.in_prod, &self.in_cons, bytes)
    }

    /// The keeper reads what the guest printed: how many bytes of `into` were filled.
    pub fn keeper_read(&self, into: &mut [u8]) -> usize {
        pop(&self.output, &self.out_prod, &self.out_cons, into)
    }

    /// Whether the guest has printed something that the keeper has not read.
    pub fn output_waits(&self) -> bool {
        self.out_prod.load(Ordering::Acquire) != self.out_cons.load(Ordering::Acquire)
    }
}

impl Default for ConsolePage {
    fn default() -> Self {
        Self::new()
    }
}

fn push(ring: &[AtomicU8], producer: &AtomicU32, consumer: &AtomicU32, bytes: &[u8]) -> usize {
    let start = producer.load(Ordering::Relaxed);
    let used = start.wrapping_sub(consumer.load(Ordering::Acquire)) as usize;
    let count = ring.len().saturating_sub(used).min(bytes.len());
    for (offset, &byte) in bytes.iter().take(count).enumerate() {
        ring[(start as usize).wrapping_add(offset) % ring.len()].store(byte, Ordering::Relaxed);
    }
    producer.store(start.wrapping_add(count as u32), Ordering::Release);
    count
}

fn pop(ring: &[AtomicU8], producer: &AtomicU32, consumer: &AtomicU32, into: &mut [u8]) -> usize {
    let start = consumer.load(Ordering::Relaxed);
    let waiting = producer.load(Ordering::Acquire).wrapping_sub(start) as usize;
    if waiting > ring.len() {
        return 0;
    }
    let count = waiting.min(into.len());
    for (offset, byte) in into.iter_mut().take(count).enumerate() {
        *byte = ring[(start as usize).wrapping_add(offset) % ring.len()].load(Ordering::Relaxed);
    }
    consumer.store(start.wrapping_add(count as u32), Ordering::Release);
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::boxed::Box;

    #[test]
    fn bytes_arrive_in_order_across_the_end_of_the_ring() {
        let page = Box::new(ConsolePage::new());
        let (mut next_in, mut next_out) = (0u8, 0u8);
        for _ in 0..100 {
            let chunk: std::vec::Vec<u8> = (0..100).map(|i| next_in.wrapping_add(i)).collect();
            assert_eq!(page.guest_write(&chunk), 100);
            next_in = next_in.wrapping_add(100);
            let mut read = [0; 100];
            assert_eq!(page.keeper_read(&mut read), 100);
            for byte in read {
                assert_eq!(byte, next_out);
                next_out = next_out.wrapping_add(1);
            }
        }
    }

    #[test]
    fn a_full_ring_takes_no_more() {
        let page = Box::new(ConsolePage::new());
        assert_eq!(page.keeper_write(&[7; 2000]), INPUT_BYTES);
        assert_eq!(page.keeper_write(b"x"), 0);
        assert_eq!(page.guest_read(&mut [0; 10]), 10);
        assert_eq!(page.keeper_write(&[8; 20]), 10);
    }

    #[test]
    fn a_lying_index_yields_nothing() {
        let page = Box::new(ConsolePage::new());
        page.out_prod.store(0x8000_0000, Ordering::Relaxed);
        assert_eq!(page.keeper_read(&mut [0; 10]), 0);
        page.in_cons.store(5, Ordering::Relaxed);
        assert_eq!(page.keeper_write(b"x"), 0);
    }
}
