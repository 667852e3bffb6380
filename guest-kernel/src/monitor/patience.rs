//! Members that do not answer.
//!
//! The agreement says whom this core waits for; here is the clock. At every look, an eighth of this core's patience apart,
//! whoever owes something and has not said a word since the last one is asked whether it is there ([`Say::Ping`]). Any word
//! counts as a sign of life, so one that is slow, or waits itself, is waited for. One that was silent for all looks of a
//! patience is denounced to the other members, which then ask by themselves, and denounce it as well or do not. When more
//! than half of the others do, whoever leads the rest leaves it out of the next epoch, if enough members are left to go on.
//! Looks are counted, and not time: a core that slept itself counts one.
//!
//! **Who was left out** is not heard any more in that life. It may never have noticed: it was paused, or worked on something
//! else. So it is told ([`Say::LeftOut`]), and when most of its members have said so, it ends that life by itself: all that
//! was under way is given up, all channels are closed, and it greets everybody in a new life. That is the end of the old one
//! for those who hear it, who answer [`Say::To`]; and what they said before was for the old life, and is passed over.

use alloc::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::wire::{Life, Say};
use super::{Monitor, News};
use crate::agreement::{CoreId, CoreSet, Event};

/// Looks until somebody who says nothing is denounced.
pub(super) const LOOKS: u8 = 8;
/// What a life that begins anew in the same place adds to its number.
const ANEW: Life = 1 << 16;

/// How long a monitor waits, and what it knows of those who do not answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Patience {
    /// Ticks between two looks; 0 where it waits for ever.
    interval: u64,
    /// The last look.
    last: u64,
    /// Looks since this core did nothing for long.
    awake: u8,
    /// Looks that this life has waited outside.
    outside: u8,
    /// For each that does not answer, who says so.
    pub(super) denounced: BTreeMap<CoreId, CoreSet>,
    /// Who says that this life of this core is not heard any more.
    told: CoreSet,
    /// Who of them says that an epoch has begun without it.
    told_begun: CoreSet,
    /// The epoch with which this core came in.
    pub(super) since: u64,
}

impl Patience {
    /// Of a core that came in with this epoch, and waits for ever.
    pub(super) fn since(epoch: u64) -> Self {
        Self { since: epoch, awake: LOOKS, ..Self::default() }
    }

    /// Whether this can be, among so many cores.
    pub(super) fn is_sound(&self, cores: usize) -> bool {
        self.denounced.keys().all(|&core| usize::from(core) < cores)
    }
}

/// Whether this is the same place's life, perhaps a later one.
pub(super) fn is_life_of(life: Life, place: Life) -> bool {
    life % ANEW == place % ANEW
}

impl Monitor {
    /// Waits for so many ticks before it denounces somebody; for ever, if that is 0.
    pub fn set_patience(&mut self, ticks: u64) {
        self.patience.interval = ticks.div_ceil(u64::from(LOOKS));
    }

    /// Looks whether those answer who owe something, if it is time to; when to come back.
    pub fn tick(&mut self, now: u64) -> u64 {
        let Patience { interval, last, awake, .. } = &mut self.patience;
        if *interval == 0 {
            return u64::MAX;
        }
        let passed = now.saturating_sub(*last);
        if passed >= *interval {
            let slept = *last != 0 && passed / *interval >= u64::from(LOOKS / 2);
            *awake = if slept { 0 } else { awake.saturating_add(1) };
            *last = now;
            self.patience.outside = if self.inside { 0 } else { self.patience.outside.saturating_add(1) };
            self.look();
            self.end_if_left_out();
        }
        self.patience.last.saturating_add(self.patience.interval)
    }

    /// Whom the agreement does not hear any more, though they may live.
    pub fn silent_members(&self) -> CoreSet {
        self.agreement.silent()
    }

    /// This core had nothing to do, and has not slept in the midst of something.
    pub fn rested(&mut self, now: u64) {
        self.patience.last = now;
    }

    /// Whether somebody owes this core something, so that it is to look.
    pub fn is_waiting(&self) -> bool {
        let Patience { interval, denounced, told, .. } = &self.patience;
        let may_begin_anew = !self.inside && !told.is_empty();
        *interval != 0 && (may_begin_anew || !denounced.is_empty() || !self.owing().is_empty())
    }

    /// Whose word is waited for: for this core's own sake, or because another has denounced them.
    fn owing(&self) -> CoreSet {
        let Some((_, members)) = self.epoch() else { return CoreSet::EMPTY };
        let own = CoreSet::one(self.me);
        let denounced = self.patience.denounced.iter().filter(|(_, by)| !by.without(own).is_empty());
        let mut owing = self.agreement.awaits().with(denounced.map(|(&core, _)| core).collect());
        if self.agreement.leads() {
            let wanting = self.strangers.values().filter(|stranger| stranger.wants_in && !stranger.asked);
            owing = wanting.fold(owing, |all, stranger| all.with(members.without(stranger.met)));
        }
        owing = owing.with(self.channels.unanswered().and(members));
        (0..)
            .zip(&self.peers)
            .filter(|&(core, peer)| owing.contains(core) && peer.is_heard())
            .map(|(core, _)| core)
            .collect()
    }

    fn look(&mut self) {
        let (owing, own) = (self.owing(), CoreSet::one(self.me));
        let Some((epoch, members)) = self.epoch() else { return };
        for core in 0..self.peers.len() as CoreId {
            let Some(peer) = self.peers.get_mut(usize::from(core)) else { return };
            match peer.look(owing.contains(core)) {
                0 => {
                    let by = self.patience.denounced.get_mut(&core);
                    if by.is_some_and(|by| by.remove(self.me)) {
                        self.tell_members(&Say::Silent { core, epoch, silent: false });
                    }
                }
                1 => self.tell(CoreSet::one(core), &Say::Ping),
                LOOKS.. if members.contains(core) => {
                    let by = self.patience.denounced.entry(core).or_default();
                    *by = by.with(own);
                    self.tell_members(&Say::Silent { core, epoch, silent: true });
                }
                // A newcomer in the midst of coming in: its steward alone waits.
                LOOKS.. => self.step(Event::Silent(core)),
                _ => {}
            }
        }
        self.patience.denounced.retain(|_, by| !by.is_empty());
        self.judge_silence();
    }

    /// Another says that a core does not answer, or that it does after all.
    pub(super) fn silent(&mut self, from: CoreId, core: CoreId, epoch: u64, silent: bool) {
        // What is said of another epoch is said again, if it still holds.
        if self.epoch().is_some_and(|(own, members)| own == epoch && members.contains(core)) {
            let by = self.patience.denounced.entry(core).or_default();
            *by = if silent { by.with(CoreSet::one(from)) } else { by.without(CoreSet::one(from)) };
            self.patience.denounced.retain(|_, by| !by.is_empty());
            self.judge_silence();
        }
    }

    /// Leaves out whom more than half of the other members denounce, if that is for this core to do.
    fn judge_silence(&mut self) {
        let Some((_, members)) = self.epoch() else { return };
        let heard = members.without(self.agreement.silent());
        let enough = |by: CoreSet, core| {
            2 * by.and(heard).without(CoreSet::one(core)).len() > members.without(CoreSet::one(core)).len()
        };
        let denounced = self.patience.denounced.iter();
        let condemned =
            denounced.filter(|&(&core, &by)| core != self.me && heard.contains(core) && enough(by, core));
        let condemned: CoreSet = condemned.map(|(&core, _)| core).collect();
        if !condemned.is_empty() && self.agreement.may_leave_out(condemned) {
            condemned.iter().for_each(|core| self.step(Event::Silent(core)));
        }
    }

    /// Tells those so whom the agreement does not hear any more, though they may live.
    pub(super) fn shun_silent(&mut self) {
        let silent = self.silent_members();
        if silent.is_empty() {
            return;
        }
        let members = self.epoch().map(|(_, members)| members);
        for core in silent.iter() {
            self.shun(core, false);
            if members.is_some_and(|members| !members.contains(core)) {
                self.shun(core, true);
            }
        }
    }

    /// Tells a core that it is not heard any more, or that an epoch has begun without it; each once.
    fn shun(&mut self, core: CoreId, begun: bool) {
        let peer = self.peers.get_mut(usize::from(core)).filter(|peer| peer.up && !peer.silenced);
        let Some((peer, life)) = peer.and_then(|peer| peer.life.map(|life| (peer, life))) else { return };
        let told = if begun { &mut peer.shunned.1 } else { &mut peer.shunned.0 };
        if core::mem::replace(told, true) {
            return;
        }
        self.tell(CoreSet::one(core), &Say::LeftOut { life, begun, since: None });
        if begun {
            self.close_channels_of(core);
            self.patience.denounced.remove(&core);
            self.news.push_back(News::LeftOut(core));
        }
    }

    /// Tells a core so that takes itself for a member of an epoch which is over: whoever left it out may be dead.
    pub(super) fn tell_stray(&mut self, core: CoreId) {
        let Some((epoch, members)) = self.epoch().filter(|(_, members)| !members.contains(core)) else {
            return;
        };
        let peer =
            self.peers.get(usize::from(core)).filter(|peer| peer.is_heard() && !members.contains(core));
        if let Some((life, since)) = peer.and_then(|peer| peer.life.zip(peer.since))
            && since <= epoch
        {
            self.tell(CoreSet::one(core), &Say::LeftOut { life, begun: true, since: Some(since) });
        }
    }

    /// Another says that this core is not heard any more.
    pub(super) fn told_left_out(&mut self, from: CoreId, life: Life, begun: bool, since: Option<u64>) {
        let is_meant = since.is_none_or(|since| self.inside && since == self.patience.since);
        if life != self.life || !is_meant {
            return;
        }
        self.patience.told.insert(from);
        if begun {
            self.patience.told_begun.insert(from);
        }
        if !self.end_if_left_out() {
            // So one of the two has to begin anew, and it is the other.
            self.shun(from, false);
        }
    }

    /// This core came in, with this epoch.
    pub(super) fn came_in(&mut self, epoch: u64) {
        (self.patience.since, self.patience.told, self.patience.told_begun) =
            (epoch, CoreSet::EMPTY, CoreSet::EMPTY);
        (0..self.peers.len() as CoreId).for_each(|core| self.tell_stray(core));
    }

    /// Begins a new life, if enough of those who can tell have told that this one is over; whether it has. One that knows
    /// itself to have slept believes anybody, and so does one that has waited outside for a patience: it has little to lose.
    pub(super) fn end_if_left_out(&mut self) -> bool {
        let Patience { told, told_begun, awake, .. } = self.patience;
        if told.is_empty() {
            return false;
        }
        let most = if self.inside {
            self.agreement.is_left_out_by(told, told_begun)
        } else {
            2 * told.and(self.up()).len() > self.up().len()
        };
        let long_outside = !self.inside && self.patience.outside >= LOOKS;
        if !(most || long_outside || awake < LOOKS) {
            return false;
        }
        self.life = self.life.wrapping_add(ANEW);
        self.inside = false;
        (self.patience.told, self.patience.told_begun) = (CoreSet::EMPTY, CoreSet::EMPTY);
        self.patience.outside = 0;
        self.patience.denounced.clear();
        self.strangers.clear();
        self.ahead.clear();
        self.accused.clear();
        for core in 0..self.peers.len() as CoreId {
            self.shelves.reborn(core);
            self.close_channels_of(core);
        }
        self.peers.iter_mut().for_each(super::peer::Peer::forget_words);
        self.news.push_back(News::Expelled);
        self.step(Event::Expelled);
        self.greet(self.up());
        true
    }

    /// A peer's word that its former life is over, and this one begins.
    pub(super) fn begins_anew(&mut self, core: CoreId, life: Life) {
        if let Some(peer) = self.peers.get_mut(usize::from(core)) {
            (peer.life, peer.shunned) = (Some(life), (false, false));
        }
        self.part_with(core);
        self.forget_words_of(core);
        self.step(Event::Died(core));
        self.step(Event::Reborn(core));
        self.judge();
        self.tell(CoreSet::one(core), &Say::To { life });
        self.greet(CoreSet::one(core));
    }
}
