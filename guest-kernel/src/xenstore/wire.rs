//! Messages out of a stream of bytes, for either end.
//!
//! A message may come in any pieces: the ring is smaller than the longest one. A header that announces more than the
//! wire allows ends the conversation, because nobody could tell where the next message begins.

use abi::xen::xs_wire::{HEADER_BYTES, Header, PAYLOAD_MAX};
use alloc::vec::Vec;
use io_rings::bytes::{Reader, Writer, XenstorePage};
use zerocopy::{FromBytes, IntoBytes};

/// Two streams of bytes, seen from one end. Neither method waits.
pub trait ByteRing {
    /// Takes what is there, as far as it fits: how many bytes that was.
    fn read(&mut self, into: &mut [u8]) -> usize;
    /// Puts what there is room for: how many bytes that was.
    fn write(&mut self, bytes: &[u8]) -> usize;
    /// The other end broke the ring's rules: nothing is read or written any more.
    fn broken(&self) -> bool;
}

/// One end of the store's page.
#[derive(Debug)]
pub struct PageEnd {
    reader: Reader<'static, 1024>,
    writer: Writer<'static, 1024>,
}

impl PageEnd {
    /// The guest's end.
    pub fn guest(page: &'static XenstorePage) -> Self {
        let (reader, writer) = page.guest();
        Self { reader, writer }
    }

    /// The store's end.
    pub fn back(page: &'static XenstorePage) -> Self {
        let (reader, writer) = page.back();
        Self { reader, writer }
    }
}

impl ByteRing for PageEnd {
    fn read(&mut self, into: &mut [u8]) -> usize {
        self.reader.read(into)
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        self.writer.write(bytes)
    }

    fn broken(&self) -> bool {
        self.reader.broken() || self.writer.broken()
    }
}

/// A whole message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Its header.
    pub header: Header,
    /// What followed.
    pub payload: Vec<u8>,
}

impl Message {
    /// As the wire has it. The header's length is made to fit the payload.
    pub fn bytes(kind: u32, request: u32, transaction: u32, payload: &[&[u8]]) -> Vec<u8> {
        let length = payload.iter().map(|part| part.len()).sum::<usize>();
        let header = Header { kind, request, transaction, length: length as u32 };
        let mut bytes = Vec::with_capacity(HEADER_BYTES + length);
        bytes.extend_from_slice(header.as_bytes());
        payload.iter().for_each(|part| bytes.extend_from_slice(part));
        bytes
    }
}

/// The header announces more than the wire allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// What has come of a message.
#[derive(Debug, Default)]
pub struct Assembler {
    header: [u8; HEADER_BYTES],
    have: usize,
    payload: Vec<u8>,
}

impl Assembler {
    /// Whether no part of a message is here.
    pub fn is_empty(&self) -> bool {
        self.have == 0 && self.payload.is_empty()
    }

    /// Takes bytes until a message is whole; `None` where the ring has no more.
    pub fn take(&mut self, ring: &mut impl ByteRing) -> Result<Option<Message>, TooLong> {
        if self.have < HEADER_BYTES {
            self.have += ring.read(self.header.get_mut(self.have..).unwrap_or_default());
            if self.have < HEADER_BYTES {
                return Ok(None);
            }
        }
        let header = Header::read_from_bytes(&self.header).unwrap_or_default();
        let length = header.length as usize;
        if length > PAYLOAD_MAX {
            return Err(TooLong);
        }
        let had = self.payload.len();
        self.payload.resize(length, 0);
        let came = ring.read(self.payload.get_mut(had..).unwrap_or_default());
        self.payload.truncate(had + came);
        if self.payload.len() < length {
            return Ok(None);
        }
        self.have = 0;
        Ok(Some(Message { header, payload: core::mem::take(&mut self.payload) }))
    }
}

/// The strings of a payload that is nothing but strings, each with a zero behind it; what follows the last zero is
/// ignored.
pub fn strings(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let whole = payload.iter().rposition(|byte| *byte == 0).unwrap_or(0);
    let some = payload.contains(&0);
    payload.get(..whole).unwrap_or_default().split(|byte| *byte == 0).filter(move |_| some)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use alloc::collections::VecDeque;
    use proptest::prelude::*;

    /// A ring that gives and takes a bounded piece at a time.
    #[derive(Debug, Default)]
    pub struct Pipe {
        pub incoming: VecDeque<u8>,
        pub outgoing: VecDeque<u8>,
        pub piece: usize,
    }

    impl ByteRing for Pipe {
        fn read(&mut self, into: &mut [u8]) -> usize {
            let count = into.len().min(self.piece).min(self.incoming.len());
            into.iter_mut().zip(self.incoming.drain(..count)).for_each(|(to, from)| *to = from);
            count
        }

        fn write(&mut self, bytes: &[u8]) -> usize {
            let count = bytes.len().min(self.piece);
            self.outgoing.extend(&bytes[..count]);
            count
        }

        fn broken(&self) -> bool {
            false
        }
    }

    #[test]
    fn strings_of_a_payload() {
        let all = |payload: &'static [u8]| strings(payload).collect::<Vec<_>>();
        assert_eq!(all(b"a\0bc\0"), [&b"a"[..], b"bc"]);
        assert_eq!(all(b"a\0\0"), [&b"a"[..], b""]);
        assert_eq!(all(b"a\0rest"), [&b"a"[..]]);
        assert_eq!(all(b"\0"), [&b""[..]]);
        assert!(all(b"rest").is_empty() && all(b"").is_empty());
    }

    #[test]
    fn a_length_beyond_the_wire_ends_it() {
        let mut bytes = Message::bytes(1, 2, 3, &[]);
        bytes[12..].copy_from_slice(&4097u32.to_le_bytes());
        let mut pipe = Pipe { incoming: bytes.into(), piece: 99, ..Pipe::default() };
        assert_eq!(Assembler::default().take(&mut pipe), Err(TooLong));
    }

    proptest! {
        #[test]
        fn any_pieces_make_the_same_messages(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..5000), 0..6),
            piece in 1usize..1200,
        ) {
            let mut pipe = Pipe { piece, ..Pipe::default() };
            for (number, payload) in payloads.iter().enumerate() {
                let payload = &payload[..payload.len().min(PAYLOAD_MAX)];
                pipe.incoming.extend(Message::bytes(7, number as u32, 0, &[payload]));
            }
            let mut assembler = Assembler::default();
            let mut seen = 0;
            while !pipe.incoming.is_empty() || seen < payloads.len() {
                if let Some(message) = assembler.take(&mut pipe).unwrap() {
                    prop_assert_eq!(message.header.request as usize, seen);
                    let length = payloads[seen].len().min(PAYLOAD_MAX);
                    prop_assert_eq!(&message.payload, &payloads[seen][..length]);
                    seen += 1;
                }
            }
            prop_assert_eq!(assembler.take(&mut pipe), Ok(None));
        }
    }
}
