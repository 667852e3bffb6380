//! Frames on the serial line: postcard, then CRC-32, made free of zeroes by COBS, then one zero.
//!
//! A receiver that meets garbage skips to the next zero and goes on: noise costs the frame it hit, no more.

use alloc::vec::Vec;

use crc::{CRC_32_ISCSI, Crc};
use serde::{Serialize, de::DeserializeOwned};

/// CRC-32C, as iSCSI uses it.
const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// The longest frame, encoded, zero included. A receiver drops what grows beyond.
pub const MAX_FRAME: usize = 16 * 1024;

/// A frame that says `message`. `None` where it would be longer than [`MAX_FRAME`].
pub fn encode<T: Serialize>(message: &T) -> Option<Vec<u8>> {
    let mut body = postcard::to_allocvec(message).ok()?;
    let check = CRC.checksum(&body);
    body.extend_from_slice(&check.to_le_bytes());
    let mut frame = alloc::vec![0; cobs::max_encoding_length(body.len())];
    let length = cobs::encode(&body, &mut frame);
    // The encoder may have scribbled behind the end: after a full run that ends the message.
    frame.truncate(length);
    frame.push(0);
    (frame.len() <= MAX_FRAME).then_some(frame)
}

/// Finds frames in a stream of bytes.
#[derive(Default, Debug)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// Too long already: skip to the next zero.
    overflown: bool,
    dropped: u64,
}

impl Decoder {
    /// A decoder that has seen nothing.
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), overflown: false, dropped: 0 }
    }

    /// Takes one byte; a message where that byte completes a sound frame.
    pub fn push<T: DeserializeOwned>(&mut self, byte: u8) -> Option<T> {
        if byte != 0 {
            if self.bytes.len() + 1 < MAX_FRAME {
                self.bytes.push(byte);
            } else {
                self.overflown = true;
            }
            return None;
        }
        let message = (!self.overflown).then(|| open(&mut self.bytes)).flatten();
        if message.is_none() && !self.bytes.is_empty() {
            self.dropped += 1;
        }
        self.bytes.clear();
        self.overflown = false;
        message
    }

    /// Frames that were damaged, too long, or of no known meaning.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

fn open<T: DeserializeOwned>(frame: &mut [u8]) -> Option<T> {
    let length = cobs::decode_in_place(frame).ok()?;
    let (body, check) = frame.get(..length)?.split_last_chunk::<4>()?;
    if CRC.checksum(body) != u32::from_le_bytes(*check) {
        return None;
    }
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Some(message),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::{Request, ToControl};
    use super::*;
    use proptest::prelude::*;

    fn feed(decoder: &mut Decoder, bytes: &[u8]) -> Vec<ToControl> {
        bytes.iter().filter_map(|&byte| decoder.push(byte)).collect()
    }

    fn sample(id: u32, bytes: Vec<u8>) -> ToControl {
        ToControl { id, request: Request::Input { name: "web".into(), bytes } }
    }

    #[test]
    fn a_frame_without_end_does_not_fill_memory() {
        let mut decoder = Decoder::new();
        assert!(feed(&mut decoder, &[1; 3 * MAX_FRAME]).is_empty());
        assert!(decoder.bytes.len() <= MAX_FRAME);
        let good = sample(7, b"x".to_vec());
        let mut rest = alloc::vec![0];
        rest.extend(encode(&good).unwrap());
        assert_eq!(feed(&mut decoder, &rest), [good]);
    }

    #[test]
    fn full_runs_end_like_all_others() {
        for length in 0..600 {
            for fill in [0, 0xff] {
                let message = sample(7, alloc::vec![fill; length]);
                let mut frame = encode(&message).unwrap();
                assert_eq!(frame.iter().filter(|byte| **byte == 0).count(), 1, "{length} bytes {fill:#x}");
                frame.extend(encode(&message).unwrap());
                assert_eq!(feed(&mut Decoder::new(), &frame), [message.clone(), message]);
            }
        }
    }

    proptest! {
        #[test]
        fn round_trip(id: u32, bytes in proptest::collection::vec(any::<u8>(), 0..1000)) {
            let message = sample(id, bytes);
            prop_assert_eq!(feed(&mut Decoder::new(), &encode(&message).unwrap()), [message]);
        }

        #[test]
        fn garbage_costs_no_later_frame(noise in proptest::collection::vec(any::<u8>(), 0..200), id: u32) {
            let message = sample(id, b"after the noise".to_vec());
            let mut stream = noise;
            stream.push(0);
            stream.extend(encode(&message).unwrap());
            let seen = feed(&mut Decoder::new(), &stream);
            prop_assert_eq!(seen.last(), Some(&message));
        }

        #[test]
        fn a_flipped_bit_is_never_a_message(at: proptest::sample::Index, bit in 0..8u32) {
            let message = sample(9, b"hello".to_vec());
            let mut frame = encode(&message).unwrap();
            let last = frame.len() - 1;
            let at = at.index(last);
            frame[at] ^= 1 << bit;
            prop_assert!(feed(&mut Decoder::new(), &frame).iter().all(|seen| *seen == message));
        }
    }
}
