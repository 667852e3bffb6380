//! The wire to the toolstack: bytes in, requests out; answers in, bytes out.
//!
//! Noise costs the frame it hits. Nothing but `Hello` is answered before a `Hello`; a `Hello` at any time starts
//! afresh, because the toolstack at the other end may be another one now: what was still to be sent is dropped
//! then, and so are answers to requests of before.
//!
//! The line may lose a frame either way, at our end most easily: the UART holds 16 bytes, and one hypercall that makes or
//! scrubs a large guest takes longer than those to come. So the toolstack asks again, under the same number, and has
//! nothing else under way meanwhile; the last answer is kept and given again, and what it answers is done once.
//!
//! What waits to be sent is bounded. While there is no room for one more answer of the longest kind no request is
//! taken, so no answer is ever lost; events, which come unasked, are asked for only while there is
//! [room](Session::room_for_events).

use alloc::collections::VecDeque;
use alloc::format;
use alloc::vec::Vec;

use abi::control::frame::{self, Decoder, MAX_FRAME};
use abi::control::wire::{Event, MAX_TEXT, Refusal, Reply, Request, ToControl, ToToolstack, VERSION};

use super::refusal::refuse;

/// Bytes that may wait to be sent before events are held back: few, because an answer waits behind them.
const ENOUGH: usize = 4 * MAX_TEXT;
/// Bytes that may wait to be sent before requests are held back: answers to what was taken already fit beyond.
const FULL: usize = 4 * MAX_FRAME;

/// A request's place in the conversation: the answer goes back with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    id: u32,
    /// Which conversation, counted by `Hello`s.
    conversation: u64,
}

/// The conversation with the toolstack.
#[derive(Debug, Default)]
pub struct Session {
    decoder: Decoder,
    outgoing: VecDeque<u8>,
    /// Counts `Hello`s.
    conversation: u64,
    open: bool,
    /// The number of the request that was answered last, and the frame that answered it.
    answered: Option<(u32, Vec<u8>)>,
}

impl Session {
    /// Whether a toolstack has ever spoken to us, whatever its version.
    pub fn has_begun(&self) -> bool {
        self.conversation > 0
    }

    /// Whether somebody listens, as far as we know.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Whether a request may be taken: the answer will fit.
    pub fn wants_input(&self) -> bool {
        self.outgoing.len() < FULL
    }

    /// Whether events may be sent.
    pub fn room_for_events(&self) -> bool {
        self.open && self.outgoing.len() < ENOUGH
    }

    /// Takes a byte from the line; a request that is to be carried out, where that byte completes one.
    ///
    /// A `Hello` comes out as a request too: whoever holds state of the conversation forgets it then.
    pub fn receive(&mut self, byte: u8) -> Option<(Ticket, Request)> {
        let ToControl { id, request } = self.decoder.push(byte)?;
        if let Request::Hello { version } = request {
            self.conversation += 1;
            self.open = version == VERSION;
            self.outgoing.clear();
            self.answered = None;
            // The line may be in the midst of an old frame.
            self.outgoing.push_back(0);
            let ticket = Ticket { id, conversation: self.conversation };
            if !self.open {
                self.reply(ticket, Err(wrong_version(version)));
                return None;
            }
            return Some((ticket, request));
        }
        if !self.open {
            return None;
        }
        if let Some((_, frame)) = self.answered.as_ref().filter(|(answered, _)| *answered == id) {
            self.outgoing.extend(frame);
            return None;
        }
        Some((Ticket { id, conversation: self.conversation }, request))
    }

    /// Sends the answer to a request, unless whoever asked is gone.
    pub fn reply(&mut self, ticket: Ticket, result: Result<Reply, Refusal>) {
        if ticket.conversation == self.conversation {
            let too_long = || {
                let long =
                    Err(refuse("the answer does not fit into a frame", "report this as a bug in Atoll"));
                frame::encode(&ToToolstack::Reply { id: ticket.id, result: long })
            };
            let bytes = frame::encode(&ToToolstack::Reply { id: ticket.id, result }).or_else(too_long);
            let bytes = bytes.unwrap_or_default();
            self.outgoing.extend(&bytes);
            self.answered = Some((ticket.id, bytes));
        }
    }

    /// Sends an event. False: nobody listens, or too much waits already.
    pub fn event(&mut self, event: Event) -> bool {
        if !self.room_for_events() {
            return false;
        }
        let bytes = frame::encode(&ToToolstack::Event(event));
        self.outgoing.extend(bytes.unwrap_or_default());
        true
    }

    /// The next byte for the line.
    pub fn transmit(&mut self) -> Option<u8> {
        self.outgoing.pop_front()
    }

    /// Whether bytes wait for the line.
    pub fn has_output(&self) -> bool {
        !self.outgoing.is_empty()
    }
}

fn wrong_version(theirs: u16) -> Refusal {
    refuse(
        format!(
            "the toolstack speaks version {theirs} of the control protocol, this machine version {VERSION}"
        ),
        "boot the machine from an image that this toolstack has built",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::control::wire::State;
    use alloc::string::String;
    use proptest::prelude::*;

    fn send(session: &mut Session, id: u32, request: Request) -> Vec<(Ticket, Request)> {
        let bytes = frame::encode(&ToControl { id, request }).unwrap();
        bytes.into_iter().filter_map(|byte| session.receive(byte)).collect()
    }

    fn hello(session: &mut Session, id: u32) -> Ticket {
        send(session, id, Request::Hello { version: VERSION })[0].0
    }

    fn sent(session: &mut Session) -> Vec<ToToolstack> {
        let mut decoder = Decoder::new();
        let mut seen = Vec::new();
        while let Some(byte) = session.transmit() {
            seen.extend(decoder.push(byte));
        }
        seen
    }

    fn stopped() -> Event {
        Event::Stopped { name: "web".into(), state: State::Crashed }
    }

    #[test]
    fn silence_before_hello() {
        let mut session = Session::default();
        assert!(send(&mut session, 1, Request::List).is_empty());
        assert!(!session.event(stopped()));
        assert!(!session.has_output() && !session.has_begun());
        let ticket = hello(&mut session, 2);
        session.reply(ticket, Ok(Reply::Done));
        assert_eq!(sent(&mut session), [ToToolstack::Reply { id: 2, result: Ok(Reply::Done) }]);
        assert_eq!(send(&mut session, 3, Request::List).len(), 1);
    }

    #[test]
    fn another_version_is_told_so() {
        let mut session = Session::default();
        assert!(send(&mut session, 9, Request::Hello { version: VERSION + 1 }).is_empty());
        let [ToToolstack::Reply { id: 9, result: Err(refusal) }] = &sent(&mut session)[..] else {
            panic!("a refusal")
        };
        assert!(refusal.what.contains("version") && !refusal.remedy.is_empty());
        assert!(send(&mut session, 10, Request::List).is_empty(), "that was no Hello");
    }

    #[test]
    fn whoever_comes_back_gets_no_stale_answers() {
        let mut session = Session::default();
        let stale = hello(&mut session, 1);
        session.reply(stale, Ok(Reply::Done));
        // Half of the answer is out when the line breaks off.
        let half: Vec<_> = (0..4).filter_map(|_| session.transmit()).collect();
        let ticket = hello(&mut session, 1);
        session.reply(stale, Ok(Reply::Domains(Vec::new())));
        session.reply(ticket, Ok(Reply::Done));
        let mut decoder = Decoder::new();
        let mut seen: Vec<ToToolstack> = half.into_iter().filter_map(|byte| decoder.push(byte)).collect();
        while let Some(byte) = session.transmit() {
            seen.extend(decoder.push(byte));
        }
        assert_eq!(seen, [ToToolstack::Reply { id: 1, result: Ok(Reply::Done) }]);
    }

    #[test]
    fn a_reader_that_does_not_read_holds_itself_up_only() {
        let mut session = Session::default();
        let ticket = hello(&mut session, 1);
        while session.event(stopped()) {}
        assert!(session.wants_input(), "requests are still taken");
        let mut answers = 0;
        while session.wants_input() {
            session.reply(ticket, Ok(Reply::Done));
            answers += 1;
        }
        assert!(session.outgoing.len() <= FULL + MAX_FRAME);
        let replies = sent(&mut session).into_iter().filter(|sent| matches!(sent, ToToolstack::Reply { .. }));
        assert_eq!(replies.count(), answers);
    }

    #[test]
    fn what_is_asked_again_is_answered_again_and_done_once() {
        let mut session = Session::default();
        hello(&mut session, 1);
        let pause = || Request::Pause("web".into());
        let [(ticket, _)] = send(&mut session, 2, pause())[..] else { panic!("a request") };
        session.reply(ticket, Ok(Reply::Done));
        let answer = ToToolstack::Reply { id: 2, result: Ok(Reply::Done) };
        assert_eq!(sent(&mut session), core::slice::from_ref(&answer));
        for _ in 0..3 {
            assert!(send(&mut session, 2, pause()).is_empty());
            assert_eq!(sent(&mut session), core::slice::from_ref(&answer));
        }
        assert_eq!(send(&mut session, 3, pause()).len(), 1, "another number is another request");
        let ticket = hello(&mut session, 3);
        session.reply(ticket, Ok(Reply::Done));
        assert_eq!(send(&mut session, 2, pause()).len(), 1, "and so it is to another toolstack");
    }

    #[test]
    fn an_answer_that_is_too_long_is_an_answer_still() {
        let mut session = Session::default();
        let ticket = hello(&mut session, 1);
        let cause = String::from_utf8(alloc::vec![b'x'; MAX_FRAME]).unwrap();
        session
            .reply(ticket, Ok(Reply::Crash { cause, registers: Vec::new(), code: Vec::new(), code_bits: 0 }));
        assert!(matches!(&sent(&mut session)[..], [ToToolstack::Reply { id: 1, result: Err(_) }]));
    }

    proptest! {
        #[test]
        fn garbage_is_survived(noise in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut session = Session::default();
            for byte in noise {
                session.receive(byte);
            }
            session.receive(0);
            let ticket = hello(&mut session, 7);
            session.reply(ticket, Ok(Reply::Done));
            prop_assert_eq!(sent(&mut session), [ToToolstack::Reply { id: 7, result: Ok(Reply::Done) }]);
        }
    }
}
