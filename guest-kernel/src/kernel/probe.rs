//! What a message costs to each peer: asked for by domain 0, measured in between everything else.
//!
//! A question goes out only when the last one is answered, so a sample is one way there and one back, through the loops of
//! both kernels: what a program pays. What comes from a peer that was not asked is not taken for an answer.

use alloc::vec::Vec;

use abi::mesh::kind;
use io_rings::urpc::Message;

use super::Kernel;
use crate::mesh::CONTROL_SLOT;
use crate::platform::Platform;

/// Questions to a peer that do not count, and those that do.
const WARM_UP: u64 = 8;
const SAMPLES: u64 = 33;

/// A measurement under way.
#[derive(Debug)]
pub struct Probe {
    /// Who is still to be asked; the last is at it.
    peers: Vec<usize>,
    asked: u64,
    begun: u64,
    samples: Vec<u64>,
}

impl<P: Platform> Kernel<P> {
    /// Takes a message that is about measuring; false if it is about something else.
    pub fn probed(&mut self, slot: usize, message: &Message) -> bool {
        match *message {
            [kind::MEASURE, ..] if slot == CONTROL_SLOT => {
                let peers = self.mesh.as_ref().map_or(Vec::new(), |mesh| mesh.live().collect());
                self.probe = Some(Probe { peers, asked: 0, begun: 0, samples: Vec::new() });
                self.ask_next();
            }
            [kind::PROBE, number, ..] => {
                // Where there is no room the peer does not read its answers, and misses one.
                let _ = self.send(slot, &[kind::PROBED, number, 0, 0, 0, 0, 0]);
            }
            [kind::PROBED, number, ..] => {
                let now = self.platform.now();
                if let Some(probe) = &mut self.probe
                    && probe.peers.last() == Some(&slot)
                    && number == probe.asked
                {
                    if probe.asked > WARM_UP {
                        probe.samples.push(now.saturating_sub(probe.begun));
                    }
                    self.ask_next();
                }
            }
            _ => return false,
        }
        true
    }

    /// Asks once more, or goes on to the next peer.
    fn ask_next(&mut self) {
        while let Some(probe) = &mut self.probe {
            let Some(&peer) = probe.peers.last() else {
                self.probe = None;
                // Domain 0 that takes no message is told nothing, and asks again.
                let _ = self.send(CONTROL_SLOT, &[kind::MEASURE, kind::MEASURED_ALL, 0, 0, 0, 0, 0]);
                return;
            };
            if probe.asked < WARM_UP + SAMPLES {
                probe.asked += 1;
                let question = [kind::PROBE, probe.asked, 0, 0, 0, 0, 0];
                probe.begun = self.platform.now();
                if self.send(peer, &question).is_ok() {
                    return;
                }
            }
            self.end_of_peer(peer);
        }
    }

    /// Reports what was measured of a peer, if all of it was.
    fn end_of_peer(&mut self, peer: usize) {
        let Some(probe) = &mut self.probe else { return };
        let mut samples = core::mem::take(&mut probe.samples);
        probe.peers.pop();
        probe.asked = 0;
        samples.sort_unstable();
        if samples.len() as u64 == SAMPLES
            && let Some(median) = samples.get(samples.len() / 2)
        {
            let _ = self.send(CONTROL_SLOT, &[kind::MEASURE, peer as u64, median / 2, 0, 0, 0, 0]);
        }
    }

    /// A peer is gone: nobody waits for its answer.
    pub(super) fn probe_lost(&mut self, slot: usize) {
        let Some(probe) = &mut self.probe else { return };
        let was_asked = probe.peers.last() == Some(&slot);
        probe.peers.retain(|&peer| peer != slot);
        if was_asked {
            probe.asked = 0;
            probe.samples.clear();
            self.ask_next();
        }
    }
}
