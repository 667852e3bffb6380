//! One turn of the control program: a bounded look at everything that may have news.

use alloc::format;
use alloc::vec::Vec;

use abi::control::hypercall::ExitKind;
use abi::control::wire::Event;
use abi::mesh::kind;
use abi::xen::DomId;
use io_rings::PeerBroken;

use super::bench::Exits;
use super::guest::Guest;
use super::hypervisor::Hypervisor;
use super::knowing::Knowing;
use super::link::{Link, Report};
use super::membership::Membership;
use super::pages::Slot;
use super::{Control, Follow, OWN_NAME};

/// Messages taken from one guest in one turn.
const MESSAGES: usize = 32;
/// Console events that one turn sends for one guest.
const EVENTS: usize = 4;
/// Milliseconds until the next try where a guest has left no room for our messages: no event tells of room.
const RETRY: u64 = 1;

/// How long domain 0 may rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Not at all: there is more.
    None,
    /// Until something happens, or until this tick.
    Until(Option<u64>),
}

impl<H: Hypervisor> Control<H> {
    /// Does a bounded piece of whatever there is to do. `line_idle`: all bytes for the toolstack have left.
    pub fn turn(&mut self, line_idle: bool) -> Rest {
        let now = self.hypervisor.ticks();
        let look = self.bench.is_due(now).then(|| self.count_exits());
        let looked_by = self.hypervisor.ticks();
        if core::mem::take(&mut self.domains_changed) {
            self.notice_stopped();
            self.stop_when_done();
        }
        self.go_on_leaving(now);
        self.go_on_replacing(now);
        // What guests print goes to a slow serial line as well: not while one is on its way to suspend itself.
        let printed = if self.cores.leaving.is_some() { 0 } else { self.serve_consoles() };
        if let Some(exits) = look {
            self.bench.looked(exits, printed == 0, now, looked_by);
        }
        let mut again = printed > 0;
        self.go_on_measuring();
        again |= self.serve_links();
        again |= self.serve_store();
        again |= self.send_followed();
        self.send_news();
        self.stop_if_due(now, line_idle);
        if again || self.domains_changed {
            return Rest::None;
        }
        Rest::Until(self.next_deadline(now))
    }

    /// Asks all guests for an event with their next message; false if one is there already. While a bench measures,
    /// guests are looked at often enough and asked for nothing: their events would be exits.
    pub fn may_sleep(&mut self) -> bool {
        if self.bench.is_measuring() {
            return true;
        }
        let mut links = self.guests.iter_mut().filter_map(|(_, guest)| guest.link.as_mut());
        links.all(|link| link.congested() || link.sleep())
    }

    /// Takes a piece of each guest's console. How many bytes that was in all.
    fn serve_consoles(&mut self) -> usize {
        let Self { hypervisor, guests, bench, journal, tsc_khz, .. } = self;
        let mut printed = 0;
        for (_, guest) in guests.iter_mut().filter(|(_, guest)| guest.is_alive()) {
            let now = guest.ended_at.map(|_| hypervisor.ticks());
            let Guest { name, console, log, .. } = guest;
            let taken = console.take(hypervisor, |hypervisor, line| {
                log.line(hypervisor, name, line, *tsc_khz);
                let now = hypervisor.ticks();
                if let Some(figure) = bench.line(line, now) {
                    journal.say(hypervisor, &figure);
                }
            });
            printed += taken;
            console.deliver(hypervisor);
            if console.caught_lying() {
                let what = format!("{name} broke the rules of its console, which is not looked at any more");
                journal.say(hypervisor, &what);
            }
            if let Some(what) = now.filter(|_| taken > 0).and_then(|now| guest.spoke(now)) {
                journal.say(hypervisor, &what);
            }
        }
        printed
    }

    /// Takes some of each guest's messages and sends what waits for it. True: there may be more.
    fn serve_links(&mut self) -> bool {
        let Self { hypervisor, guests, membership, knowing, journal, .. } = self;
        let mut introductions = Vec::new();
        let mut more = false;
        for (slot, guest) in guests.iter_mut() {
            let lost_before = guest.report.lost;
            let heard_before = guest.link.as_ref().map(Link::received);
            let now = guest.ended_at.map(|_| hypervisor.ticks());
            match serve(hypervisor, (membership, knowing), slot, guest, &mut introductions) {
                Ok(some) => more |= some,
                Err(PeerBroken) => {
                    membership.deaf(slot);
                    if let Some(link) = guest.link.take() {
                        hypervisor.close(link.port());
                    }
                    let what = format!(
                        "{} broke the rules of its channel with domain 0, which is closed",
                        guest.name
                    );
                    journal.say(hypervisor, &what);
                }
            }
            let has_spoken = guest.link.as_ref().map(Link::received) != heard_before;
            if let Some(what) = now.filter(|_| has_spoken).and_then(|now| guest.spoke(now)) {
                journal.say(hypervisor, &what);
            }
            // Once a guest: it may report what it likes, as often as it likes.
            if lost_before == 0 && guest.report.lost > 0 {
                journal.say(hypervisor, &format!("{} says that mesh messages were lost", guest.name));
            }
        }
        more |= !introductions.is_empty();
        for (older, newer) in introductions {
            self.introduce(older, newer);
        }
        more
    }

    /// Sends what followed guests have printed, as far as there is room. True: there is more, and room for it.
    pub(super) fn send_followed(&mut self) -> bool {
        let Self { guests, session, follows, journal, .. } = self;
        let mut more = false;
        for Follow { name, next } in follows.iter_mut() {
            let guest = || guests.find(name).and_then(|slot| guests.get(slot));
            let own = (name == OWN_NAME).then(|| journal.tail());
            let Some(tail) = own.or_else(|| Some(guest()?.console.tail())) else { continue };
            for _ in 0..EVENTS {
                if *next == tail.end() || !session.room_for_events() {
                    break;
                }
                let text = tail.read(*next);
                *next = text.next;
                session.event(Event::Console { name: name.clone(), text });
            }
            more |= *next != tail.end() && session.room_for_events();
        }
        if follows.len() > 1 {
            // The room is everybody's: another one is first next time.
            follows.rotate_left(1);
        }
        more
    }

    /// Sends what else happened. While nobody listens it is forgotten: `List` tells whoever comes later.
    fn send_news(&mut self) {
        if !self.session.is_open() {
            self.news.clear();
        }
        while self.session.room_for_events() && !self.news.is_empty() {
            self.session.event(self.news.remove(0));
        }
    }

    fn stop_if_due(&mut self, now: u64, line_idle: bool) {
        if let Some((code, latest)) = self.stopping
            && (now >= latest || line_idle && !self.session.has_output())
        {
            self.hypervisor.machine_stop(code);
        }
    }

    /// The exits of all guests so far, by kind.
    fn count_exits(&mut self) -> Exits {
        let domains: Vec<DomId> = self
            .guests
            .iter()
            .filter(|(_, guest)| !guest.is_remains)
            .map(|(_, guest)| guest.domain)
            .collect();
        let infos = domains.into_iter().filter_map(|domain| self.hypervisor.domain_info(domain).ok());
        infos
            .fold([0; ExitKind::COUNT], |sum, info| core::array::from_fn(|kind| sum[kind] + info.exits[kind]))
    }

    fn next_deadline(&self, now: u64) -> Option<u64> {
        let stuck = |guest: &Guest| {
            guest.state == abi::control::wire::State::Running
                && guest.link.as_ref().is_some_and(|link| link.has_outgoing())
        };
        let retry = self.guests.iter().any(|(_, guest)| stuck(guest)).then(|| self.after(now, RETRY));
        let stop = self.stopping.map(|(_, latest)| latest);
        [retry, stop, self.bench.next_look(), self.leaving_deadline(), self.replacing_deadline()]
            .into_iter()
            .flatten()
            .min()
    }
}

/// Takes some of one guest's messages, and sends what waits for it. True: there may be more.
fn serve<H: Hypervisor>(
    hypervisor: &mut H,
    (membership, knowing): (&mut Membership, &mut Knowing),
    slot: Slot,
    guest: &mut Guest,
    introductions: &mut Vec<(Slot, Slot)>,
) -> Result<bool, PeerBroken> {
    let Some(link) = &mut guest.link else { return Ok(false) };
    let held_back = link.congested();
    let mut taken = 0;
    while taken < MESSAGES
        && let Some(message) = link.receive()?
    {
        taken += 1;
        match message {
            [kind::PING, sequence, ..] => link.queue([kind::PONG, sequence, 0, 0, 0, 0, 0]),
            [kind::PEER_DOWN_ACK, about, ..] => {
                let about = usize::try_from(about).unwrap_or(usize::MAX);
                if membership.acknowledged(slot, about) {
                    introductions.push((slot, about));
                }
            }
            _ if knowing.hear(slot, &message) => {}
            message if guest.accounts.take(&message) => {}
            // Greetings, and what is none of domain 0's business, report nothing.
            _ => guest.report = Report::read(&message).unwrap_or(guest.report),
        }
    }
    link.flush(hypervisor, |message| {
        if let [kind::PEER_DOWN, about, ..] = *message {
            membership.asked(slot, about as Slot);
        }
    })?;
    Ok(taken > 0 || held_back && !link.congested())
}
