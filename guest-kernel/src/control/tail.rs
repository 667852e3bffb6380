//! What a guest has printed: the last bytes of it, under the positions they had in the whole, and its lines.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use abi::control::wire::{MAX_KEPT, MAX_TEXT, Text};

/// A line longer than this is logged in pieces.
const MAX_LINE: usize = 256;

/// The end of a stream of bytes.
#[derive(Debug, Default)]
pub struct Tail {
    bytes: VecDeque<u8>,
    end: u64,
}

impl Tail {
    /// Appends; what is too old is forgotten.
    pub fn push(&mut self, bytes: &[u8]) {
        self.end = self.end.saturating_add(bytes.len() as u64);
        let new = &bytes[bytes.len().saturating_sub(MAX_KEPT)..];
        let excess = (self.bytes.len() + new.len()).saturating_sub(MAX_KEPT);
        self.bytes.drain(..excess);
        self.bytes.extend(new);
    }

    /// Position behind the last byte.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// A piece from this position on, or from the oldest byte still kept where that is later.
    pub fn read(&self, from: u64) -> Text {
        let kept = self.bytes.len() as u64;
        let oldest = self.end - kept;
        let from = from.clamp(oldest, self.end);
        let bytes: Vec<u8> =
            self.bytes.iter().skip((from - oldest) as usize).take(MAX_TEXT).copied().collect();
        Text { from, next: from + bytes.len() as u64, bytes }
    }
}

/// Makes lines of bytes, for the machine's log: printable ASCII, of bounded length.
#[derive(Debug, Default)]
pub struct Lines {
    line: String,
}

impl Lines {
    /// Takes bytes and gives each line they complete to `each`.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&str)) {
        for &byte in bytes {
            match byte {
                b'\n' => self.end(&mut each),
                b'\r' => {}
                b'\t' => self.line.push(' '),
                b' '..=b'~' => self.line.push(char::from(byte)),
                _ => self.line.push('.'),
            }
            if self.line.len() >= MAX_LINE {
                self.end(&mut each);
            }
        }
    }

    /// Gives what waits for its end, if anything does: nothing more will come.
    pub fn finish(&mut self, mut each: impl FnMut(&str)) {
        if !self.line.is_empty() {
            self.end(&mut each);
        }
    }

    fn end(&mut self, each: &mut impl FnMut(&str)) {
        each(&self.line);
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    #[test]
    fn lines_are_harmless() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        lines.push(b"one\r\ntw", |line| seen.push(String::from(line)));
        lines.push(b"o\n\x1b[2J\xff\n", |line| seen.push(line.into()));
        lines.push(&[b'x'; MAX_LINE + 3], |line| seen.push(line.into()));
        lines.finish(|line| seen.push(line.into()));
        lines.finish(|line| seen.push(line.into()));
        assert_eq!(seen, ["one", "two", ".[2J.", &"x".repeat(MAX_LINE), "xxx"]);
    }

    proptest! {
        /// Whoever reads from a position to the end, whenever, gets the end of the whole.
        #[test]
        fn reading_gives_what_was_printed(sizes in proptest::collection::vec(0..100_000usize, 1..6), from: u64) {
            let mut tail = Tail::default();
            let mut whole = vec![];
            for (index, size) in sizes.into_iter().enumerate() {
                let bytes: Vec<u8> = (0..size).map(|at| (at * 7 + index) as u8).collect();
                tail.push(&bytes);
                whole.extend(bytes);
            }
            prop_assert_eq!(tail.end(), whole.len() as u64);
            let mut next = from % (whole.len() as u64 + 10);
            loop {
                let text = tail.read(next);
                prop_assert!(text.bytes.len() <= MAX_TEXT);
                prop_assert!(text.from >= next || next > tail.end());
                prop_assert_eq!(&whole[text.from as usize..text.next as usize], &text.bytes[..]);
                if text.bytes.is_empty() {
                    prop_assert_eq!(text.next, tail.end());
                    break;
                }
                next = text.next;
            }
        }
    }
}
