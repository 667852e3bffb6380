//! The guest's end: requests go out as they come, and answers are told apart by their numbers.
//!
//! Nothing here waits. A request is put where the ring takes it, at once or when there is room, and its number is given
//! back; [`Client::poll`] hands out answers and events as they arrive. So any number of requests may be under way. After
//! each of these calls whoever holds the event channel asks [`Client::moved`] whether the store is to be notified.
//!
//! The store is domain 0's, and trusted to keep the wire's rules; if it does not, the client says so and is silent.

use abi::xen::xs_wire::{Error, PAYLOAD_MAX, kind};
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use super::wire::{Assembler, ByteRing, Message, strings};

/// A request's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u32);

/// A transaction's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transaction(u32);

impl Transaction {
    /// From the answer to [`Client::begin`].
    pub fn from_answer(answer: &[u8]) -> Option<Self> {
        let text = core::str::from_utf8(answer).ok()?;
        text.trim_end_matches('\0').parse().ok().map(Self)
    }
}

/// What arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The answer to a request.
    Answer {
        /// Which.
        ticket: Ticket,
        /// What came of it.
        result: Result<Vec<u8>, Error>,
    },
    /// Something changed at or below a watched path.
    Changed {
        /// What.
        path: String,
        /// The watch's token.
        token: String,
    },
}

/// The store broke the wire's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreBroken;

/// The guest's end of a ring.
#[derive(Debug)]
pub struct Client<R> {
    ring: R,
    input: Assembler,
    outgoing: VecDeque<u8>,
    last: u32,
    /// Requests whose answers have not come.
    unanswered: u32,
    /// Transactions that were asked for, and are not wanted any more.
    abandoned: Vec<Ticket>,
    moved: bool,
    broken: bool,
}

impl<R: ByteRing> Client<R> {
    /// A client over a ring that is quiet.
    pub fn new(ring: R) -> Self {
        Self {
            ring,
            input: Assembler::default(),
            outgoing: VecDeque::new(),
            last: 0,
            unanswered: 0,
            abandoned: Vec::new(),
            moved: false,
            broken: false,
        }
    }

    /// Asks for the value of a node.
    pub fn read(&mut self, within: Option<Transaction>, path: &str) -> Ticket {
        self.ask(within, kind::READ, &[path.as_bytes(), b"\0"])
    }

    /// Asks for the names of a node's children.
    pub fn directory(&mut self, within: Option<Transaction>, path: &str) -> Ticket {
        self.ask(within, kind::DIRECTORY, &[path.as_bytes(), b"\0"])
    }

    /// Writes a node.
    pub fn write(&mut self, within: Option<Transaction>, path: &str, value: &[u8]) -> Ticket {
        self.ask(within, kind::WRITE, &[path.as_bytes(), b"\0", value])
    }

    /// Makes a node.
    pub fn mkdir(&mut self, within: Option<Transaction>, path: &str) -> Ticket {
        self.ask(within, kind::MKDIR, &[path.as_bytes(), b"\0"])
    }

    /// Removes a node and all below it.
    pub fn remove(&mut self, within: Option<Transaction>, path: &str) -> Ticket {
        self.ask(within, kind::RM, &[path.as_bytes(), b"\0"])
    }

    /// Asks to be told of changes at and below a path; the first [`News::Changed`] comes at once.
    pub fn watch(&mut self, path: &str, token: &str) -> Ticket {
        self.ask(None, kind::WATCH, &[path.as_bytes(), b"\0", token.as_bytes(), b"\0"])
    }

    /// Undoes [`Self::watch`].
    pub fn unwatch(&mut self, path: &str, token: &str) -> Ticket {
        self.ask(None, kind::UNWATCH, &[path.as_bytes(), b"\0", token.as_bytes(), b"\0"])
    }

    /// Begins a transaction; the answer holds its [number](Transaction::from_answer).
    pub fn begin(&mut self) -> Ticket {
        self.ask(None, kind::TRANSACTION_START, &[b"\0"])
    }

    /// Ends a transaction, its changes made or dropped. `EAGAIN`: somebody else was faster, and it is to be done anew.
    pub fn end(&mut self, transaction: Transaction, commit: bool) -> Ticket {
        self.ask(Some(transaction), kind::TRANSACTION_END, &[if commit { b"T\0" } else { b"F\0" }])
    }

    /// Nobody waits any more for the answer to [`Client::begin`]: the transaction ends when it has begun.
    pub fn abandon(&mut self, begun: Ticket) {
        self.abandoned.push(begun);
    }

    /// Sends any request. One that is longer than the wire allows is sent without its payload, and is refused.
    pub fn ask(&mut self, within: Option<Transaction>, kind: u32, payload: &[&[u8]]) -> Ticket {
        self.last = self.last.wrapping_add(1);
        self.unanswered += 1;
        let length: usize = payload.iter().map(|part| part.len()).sum();
        let payload = if length > PAYLOAD_MAX { &[] } else { payload };
        let transaction = within.map_or(0, |Transaction(number)| number);
        self.outgoing.extend(Message::bytes(kind, self.last, transaction, payload));
        self.flush();
        Ticket(self.last)
    }

    /// The next answer or event, if one is there.
    pub fn poll(&mut self) -> Result<Option<News>, StoreBroken> {
        self.flush();
        while !self.broken {
            let message = self.input.take(&mut Counted { ring: &mut self.ring, moved: &mut self.moved });
            match message {
                Ok(Some(message)) => match self.noted(message) {
                    Some(News::Answer { ticket, result }) if self.abandoned.contains(&ticket) => {
                        self.abandoned.retain(|abandoned| *abandoned != ticket);
                        if let Some(begun) = result.ok().and_then(|answer| Transaction::from_answer(&answer))
                        {
                            self.end(begun, false);
                        }
                    }
                    Some(news) => return Ok(Some(news)),
                    None => {}
                },
                Ok(None) if !self.ring.broken() => return Ok(None),
                Ok(None) | Err(_) => self.broken = true,
            }
        }
        Err(StoreBroken)
    }

    fn noted(&mut self, message: Message) -> Option<News> {
        let news = news(message);
        if matches!(news, Some(News::Answer { .. })) {
            self.unanswered = self.unanswered.saturating_sub(1);
        }
        news
    }

    /// Nothing was asked that is not answered, and no message is half here: another client could go on over this ring.
    pub fn is_quiet(&self) -> bool {
        self.unanswered == 0 && self.outgoing.is_empty() && self.input.is_empty()
    }

    /// Whether requests wait for room.
    pub fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether the store is to be notified; true once.
    pub fn moved(&mut self) -> bool {
        core::mem::take(&mut self.moved)
    }

    fn flush(&mut self) {
        let count = self.ring.write(self.outgoing.make_contiguous());
        self.outgoing.drain(..count.min(self.outgoing.len()));
        self.moved |= count > 0;
    }
}

/// A ring that notes when bytes came out of it.
struct Counted<'a, R> {
    ring: &'a mut R,
    moved: &'a mut bool,
}

impl<R: ByteRing> ByteRing for Counted<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> usize {
        let count = self.ring.read(into);
        *self.moved |= count > 0;
        count
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        self.ring.write(bytes)
    }

    fn broken(&self) -> bool {
        self.ring.broken()
    }
}

/// What a message tells; `None` where it is an event without a path.
fn news(message: Message) -> Option<News> {
    let Message { header, payload } = message;
    let ticket = Ticket(header.request);
    match header.kind {
        kind::WATCH_EVENT => {
            let mut texts = strings(&payload).map(String::from_utf8_lossy);
            Some(News::Changed { path: texts.next()?.into_owned(), token: texts.next()?.into_owned() })
        }
        kind::ERROR => {
            let name = payload.split(|byte| *byte == 0).next().unwrap_or_default();
            Some(News::Answer { ticket, result: Err(Error::from_name(name)) })
        }
        _ => Some(News::Answer { ticket, result: Ok(payload) }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::tests::Pipe;
    use super::*;

    #[test]
    fn requests_wait_for_room_and_answers_are_told_apart() {
        let mut client = Client::new(Pipe { piece: 7, ..Pipe::default() });
        let (one, other) = (client.read(None, "one"), client.read(None, "other"));
        assert!(one != other && client.has_outgoing());
        while client.has_outgoing() {
            assert_eq!(client.poll(), Ok(None));
            assert!(client.moved());
        }
        assert!(!client.moved());
        let sent: Vec<u8> = client.ring.outgoing.drain(..).collect();
        assert_eq!(sent.len(), 16 + 4 + 16 + 6);
        for (ticket, kind, payload) in [(other, kind::ERROR, &b"ENOENT\0"[..]), (one, kind::READ, b"value")] {
            client.ring.incoming.extend(Message::bytes(kind, ticket.0, 0, &[payload]));
        }
        client.ring.incoming.extend(Message::bytes(kind::WATCH_EVENT, 0, 0, &[b"data/x\0token\0"]));
        client.ring.piece = 4096;
        assert_eq!(client.poll(), Ok(Some(News::Answer { ticket: other, result: Err(Error::ENOENT) })));
        assert_eq!(client.poll(), Ok(Some(News::Answer { ticket: one, result: Ok(b"value".to_vec()) })));
        assert_eq!(client.poll(), Ok(Some(News::Changed { path: "data/x".into(), token: "token".into() })));
        assert!(client.moved());
        assert_eq!(client.poll(), Ok(None));
    }

    #[test]
    fn a_transaction_that_nobody_wants_any_more_is_ended() {
        let mut client = Client::new(Pipe { piece: 4096, ..Pipe::default() });
        let begun = client.begin();
        client.abandon(begun);
        client.ring.outgoing.clear();
        client.ring.incoming.extend(Message::bytes(kind::TRANSACTION_START, begun.0, 0, &[b"5\0"]));
        assert_eq!(client.poll(), Ok(None));
        let sent: Vec<u8> = client.ring.outgoing.drain(..).collect();
        assert_eq!(sent, Message::bytes(kind::TRANSACTION_END, begun.0 + 1, 5, &[b"F\0"]));
    }

    #[test]
    fn a_store_that_talks_nonsense_is_not_listened_to() {
        let mut client = Client::new(Pipe { piece: 4096, ..Pipe::default() });
        client.ring.incoming.extend([0xff; 64]);
        assert_eq!(client.poll(), Err(StoreBroken));
        assert_eq!(client.poll(), Err(StoreBroken));
    }

    #[test]
    fn transactions_have_numbers() {
        assert_eq!(Transaction::from_answer(b"17\0"), Some(Transaction(17)));
        assert_eq!(Transaction::from_answer(b"x\0"), None);
    }
}
