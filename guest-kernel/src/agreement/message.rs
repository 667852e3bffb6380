//! What monitors say to each other about agreement, and what goes in and out of the state machine.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::core_set::{CoreId, CoreSet};

/// A transaction of an epoch. Ordered by initiator: where two conflict, the lower initiator goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TxnId {
    /// Whose it is.
    pub initiator: CoreId,
    /// Its number among the initiator's in this epoch.
    pub sequence: u64,
}

/// Why an operation was not carried out. Nothing of it was, anywhere, but for one of which that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Refusal {
    /// The replicated state does not admit it (or no longer): a reason of the replica's own.
    State(u32),
    /// This core is not a member, or left before the operation began.
    NotAMember,
    /// Too many wait already.
    Busy,
    /// This core was left out while the operation was under way, and does not know whether it was carried out. Its
    /// replica tells, once it is in again.
    Unknown,
}

/// What an epoch begins with: who is in it, and what of the epoch before is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Decision<O> {
    /// The members.
    pub members: CoreSet,
    /// Those of them that come new, and so are the last to begin and to be steward.
    pub fresh: CoreSet,
    /// The lives in which these come, as far as the steward knows.
    pub lives: Vec<(CoreId, u32)>,
    /// The transactions of the epoch before that were committed. All others never happened.
    pub commits: Vec<(TxnId, O)>,
}

/// How far a core is, told to the steward.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Standing<O> {
    /// In the epoch before the proposed one, with what it has carried out and does not know to be known to all.
    Before(Vec<(TxnId, O)>),
    /// In no epoch: its replica is to be given to it.
    Fresh,
    /// In the proposed epoch already: a steward that died had decided it so.
    Decided(Decision<O>),
}

/// Who is dead to the one that says so: not heard any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Dead {
    /// All of them.
    pub all: CoreSet,
    /// Those of whom it is certain, and who did not merely not answer.
    pub ended: CoreSet,
}

/// What a message says.
#[expect(missing_docs, reason = "each variant's line names its fields")]
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Body<O, S> {
    /// One phase: carry it out, pass it on, acknowledge. All transactions below `settled` are known to all.
    Apply { txn: TxnId, op: O, settled: u64 },
    /// Two phases, first: lock the resource, pass it on, vote.
    Prepare { txn: TxnId, op: O, settled: u64 },
    /// Upwards: this core and all below it have voted; a refusal, if there was one.
    Vote { txn: TxnId, refusal: Option<Refusal> },
    /// Second phase: carry it out, unlock, pass it on, acknowledge.
    Commit { txn: TxnId },
    /// Second phase: unlock and forget. Needs no acknowledgement.
    Abort { txn: TxnId },
    /// Upwards: this core and all below it have carried it out.
    Ack { txn: TxnId },
    /// To the steward: these cores want in, those want out; and these have been left out as silent.
    Wish { joins: CoreSet, leaves: CoreSet, silent: CoreSet },
    /// The steward begins the change to the message's epoch: stop, and tell how far you are.
    Propose { attempt: u64, dead: Dead },
    /// The answer.
    Report { attempt: u64, dead: Dead, standing: Standing<O> },
    /// The message's epoch begins; with a replica for whom comes new.
    Install { decision: Decision<O>, state: Option<S> },
    /// It began here.
    Installed,
    /// All members that were in the epoch before are in the message's.
    Begun,
    /// The message's epoch is the sender's: what you sent belongs to one that is over.
    Stale,
}

/// A message and the epoch it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message<O, S> {
    /// The epoch.
    pub epoch: u64,
    /// What it says.
    pub body: Body<O, S>,
}

/// What the program on this core calls an operation.
pub type Ticket = u64;

/// What happens to a monitor.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Event<O, S> {
    /// A program on this core wants this done; the ticket comes back with the outcome.
    Request(Ticket, O),
    /// A core shall be taken in.
    Join(CoreId),
    /// A core shall be let go.
    Leave(CoreId),
    /// A core is dead: nothing more of it will come, and nothing more reaches it.
    Died(CoreId),
    /// A core does not answer, and most say so: it is left out as if it were dead, if enough members are left.
    Silent(CoreId),
    /// This core has been left out: it ends its life as a member, and is as one that never was in.
    Expelled,
    /// A core that was dead has a new life.
    Reborn(CoreId),
    /// A core's life has this number; the next one will have another.
    Met(CoreId, u32),
    /// A message came.
    Message(CoreId, Message<O, S>),
}

/// What a monitor is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<O, S> {
    /// Send it.
    Send(CoreId, Message<O, S>),
    /// The operation was carried out on every member.
    Done(Ticket),
    /// It was not carried out on any.
    Refused(Ticket, Refusal),
    /// An epoch began with these members.
    Epoch(u64, CoreSet),
    /// This core sends what no honest one does.
    Suspect(CoreId),
}
