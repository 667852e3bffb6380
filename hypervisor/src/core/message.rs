//! What cores say to each other: requests over a URPC channel per pair and direction, each with one reply.
//!
//! A request is announced by an NMI, so that its target need not poll. Two kinds differ in when they are served.
//! *Leaf* requests change one port and are answered at once, even by a core that itself waits for an answer; hence no
//! two cores ever wait for each other. The others, which take the domain off its core or put it there, wait until the
//! target is back in its loop. A core has at most one request under way.

use abi::xen::DomId;
use abi::xen::errno::{Errno, HypercallResult};
use io_rings::urpc::Message;

/// A request to another core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Take this domain (its address) and let it run.
    Run(u64),
    /// Take the domain off the core until `Unpause`.
    Pause,
    /// Let it go on.
    Unpause,
    /// Close its channels, leave nothing of it on the core, and give it back.
    Release,
    /// Leaf: join your domain's port `port`, which waits for `domain`, to that domain's `remote_port`.
    Join {
        /// Port of the domain asked.
        port: u32,
        /// The domain that binds.
        domain: DomId,
        /// The domain that is asked, lest it be another by now.
        of: DomId,
        /// The binder's port.
        remote_port: u32,
    },
    /// Leaf: the other end of your port `port`, `remote_port` of `domain`, was closed.
    Part {
        /// Port of the domain told.
        port: u32,
        /// The domain that closed.
        domain: DomId,
        /// The port it closed.
        remote_port: u32,
    },
}

const RUN: u64 = 1;
const PAUSE: u64 = 2;
const UNPAUSE: u64 = 3;
const RELEASE: u64 = 4;
const JOIN: u64 = 5;
const PART: u64 = 6;
const REPLY: u64 = 7;

/// What arrives on a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A request to serve.
    Request(Request),
    /// The answer to ours.
    Reply(HypercallResult),
}

impl Request {
    /// Whether it is answered at once.
    pub const fn is_leaf(self) -> bool {
        matches!(self, Self::Join { .. } | Self::Part { .. })
    }

    /// As a message.
    pub const fn encode(self) -> Message {
        match self {
            Self::Run(domain) => [RUN, domain, 0, 0, 0, 0, 0],
            Self::Pause => [PAUSE, 0, 0, 0, 0, 0, 0],
            Self::Unpause => [UNPAUSE, 0, 0, 0, 0, 0, 0],
            Self::Release => [RELEASE, 0, 0, 0, 0, 0, 0],
            Self::Join { port, domain, of, remote_port } => {
                [JOIN, port as u64, domain as u64, of as u64, remote_port as u64, 0, 0]
            }
            Self::Part { port, domain, remote_port } => {
                [PART, port as u64, domain as u64, remote_port as u64, 0, 0, 0]
            }
        }
    }
}

/// A reply as a message.
pub const fn reply(result: HypercallResult) -> Message {
    let rax = match result {
        Ok(value) => value,
        Err(error) => error.as_rax(),
    };
    [REPLY, rax, 0, 0, 0, 0, 0]
}

/// A message as what it says. Only hypervisors write these channels, so an unknown kind is a bug: `None`.
pub fn decode(message: Message) -> Option<Incoming> {
    let [kind, a, b, c, d, ..] = message;
    Some(Incoming::Request(match kind {
        RUN => Request::Run(a),
        PAUSE => Request::Pause,
        UNPAUSE => Request::Unpause,
        RELEASE => Request::Release,
        JOIN => Request::Join { port: a as u32, domain: b as DomId, of: c as DomId, remote_port: d as u32 },
        PART => Request::Part { port: a as u32, domain: b as DomId, remote_port: c as u32 },
        REPLY => return Some(Incoming::Reply(Errno::from_rax(a).map_or(Ok(a), Err))),
        _ => return None,
    }))
}
