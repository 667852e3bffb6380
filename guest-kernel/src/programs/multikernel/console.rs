//! The console's task: one line after the other.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::future::poll_fn;
use core::task::{Context, Poll};

use super::carry::Fails;
use super::state::{Bench, Lane, MAX_DEPTH, Phases};
use super::{App, MEMORY};
use crate::replica::Op;
use crate::replica::capabilities::{CapOp, Kind};
use crate::replica::names::{NameOp, Place};
use crate::tasks::ledger::Sums;

impl App {
    /// Does what is typed. What was begun before this kernel took over its core is ended first.
    pub(super) async fn console(self: Rc<Self>) {
        loop {
            if self.state.borrow().bench.is_some() {
                self.bench().await;
            }
            self.await_answer().await;
            let line = poll_fn(|context| match self.lines.borrow_mut().pop_front() {
                Some(line) => Poll::Ready(line),
                None => {
                    self.typed.wait(context);
                    Poll::Pending
                }
            })
            .await;
            self.obey(&line);
        }
    }

    /// Begins what the line says.
    fn obey(self: &Rc<Self>, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match *words {
            ["counts"] => self.counts(),
            ["names"] => self.names(),
            ["frames"] => self.say(&format!("frames:{}", self.frames())),
            ["map", base] => self.say(&match self.frame(Some(base)).map(|frame| self.map(frame)) {
                Some(Ok(())) => format!("{line}: done"),
                Some(Err(why)) => format!("{line}: refused: {why}"),
                None => format!("{line}: what?"),
            }),
            ["peek", base] => match base.parse() {
                Ok(base) => self.say(&format!("{line}: {}", self.peek(base))),
                Err(_) => self.say(&format!("{line}: what?")),
            },
            ["poke", base, word] => match (base.parse(), word.parse()) {
                (Ok(base), Ok(word)) => {
                    self.poke(base, word);
                    self.say(&format!("{line}: done"));
                }
                _ => self.say(&format!("{line}: what?")),
            },
            ["tasks"] => self.tasks(),
            ["leave"] => self.desk.monitor(|monitor| monitor.want_in(false)),
            ["join"] => self.desk.monitor(|monitor| monitor.want_in(true)),
            ["bench", phases @ ("1pc" | "2pc"), count, ref depth @ ..] => {
                let phases = if phases == "1pc" { Phases::One } else { Phases::Two };
                let (wanted, begun) = (count.parse().unwrap_or(0), self.spawner.ledger().now());
                let depth =
                    depth.first().and_then(|depth| depth.parse().ok()).unwrap_or(1).clamp(1, MAX_DEPTH);
                // A bench before this one may have left names.
                let left = |lane| {
                    self.desk.look(|monitor| monitor.system().names.look_up(&self.lane_name(lane)).is_some())
                };
                let lanes = (0..depth).map(|lane| Lane { ticket: None, turn: left(lane).into() }).collect();
                let bench = Bench { phases, wanted, asked: 0, done: 0, begun, lanes, refusal: None };
                self.state.borrow_mut().bench = Some(bench);
            }
            ["replace", ref failure @ ..] => {
                match failure.first().map_or(Some(Fails::Never), |name| Fails::named(name)) {
                    Some(fails) => {
                        self.successor.set(Some(fails));
                        self.drains.set(true);
                    }
                    None => self.say(&format!("{line}: what?")),
                }
            }
            ["serve", name] => self.serve(name),
            ["call", name, count, depth] => {
                self.call(name, count.parse().unwrap_or(0), depth.parse().unwrap_or(1), false);
            }
            ["call", name, count, depth, "pages"] => {
                self.call(name, count.parse().unwrap_or(0), depth.parse().unwrap_or(1), true);
            }
            _ => match self.op(&words) {
                Some(op) => {
                    let ticket = self.desk.ask(op);
                    self.state.borrow_mut().asked = Some((ticket, line.to_string()));
                }
                None => self.say(&format!("{line}: what?")),
            },
        }
    }

    fn op(&self, words: &[&str]) -> Option<Op> {
        let by = self.core();
        let root = MEMORY;
        Some(match *words {
            ["register", name] => {
                Op::Name(NameOp::Register { name: name.to_string(), place: Place { core: by, service: 1 } })
            }
            ["unregister", name] => Op::Name(NameOp::Unregister { name: name.to_string(), core: by }),
            ["copy", core, ref base @ ..] => {
                let cap = self.frame(base.first().copied())?;
                Op::Cap(CapOp::Copy { root, cap, by, to: core.parse().ok()? })
            }
            ["delete", base] => Op::Cap(CapOp::Delete { root, cap: self.frame(Some(base))?, by }),
            ["revoke", ref base @ ..] => {
                Op::Cap(CapOp::Revoke { root, cap: self.frame(base.first().copied())?, by })
            }
            ["retype", base, size] => {
                let (epoch, _) = self.desk.look(|monitor| monitor.epoch())?;
                let mut state = self.state.borrow_mut();
                state.frames += 1;
                let into = root.below(epoch, by, state.frames);
                let (base, size) = (base.parse().ok()?, size.parse().ok()?);
                Op::Cap(CapOp::Retype { root, from: root, by, into, kind: Kind::Frame, base, size })
            }
            ["unmap", base] => Op::Cap(CapOp::Unmap { cap: self.frame(Some(base))? }),
            _ => return None,
        })
    }

    /// The answer to the operation that is under way, if one is.
    async fn await_answer(&self) {
        let Some((ticket, line)) = self.state.borrow().asked.clone() else { return };
        match self.desk.outcome(ticket).await {
            Ok(()) => self.say(&format!("{line}: done")),
            Err(refusal) => self.say(&format!("{line}: refused: {refusal:?}")),
        }
        self.state.borrow_mut().asked = None;
    }

    /// Operations, as many at a time as there are lanes, until there were enough or one is refused.
    async fn bench(&self) {
        while self.fill_lanes() {
            poll_fn(|context| self.poll_lanes(context)).await;
        }
        let Some(Bench { phases, done, begun, refusal, .. }) = self.state.borrow_mut().bench.take() else {
            return;
        };
        if let Some(refusal) = refusal {
            return self.say(&format!("bench: refused: {refusal:?}"));
        }
        let ticks = self.spawner.ledger().now().saturating_sub(begun);
        let members = self.desk.look(|monitor| monitor.epoch()).map_or(0, |(_, members)| members.len());
        let name = if phases == Phases::One { "1pc" } else { "2pc" };
        self.say(&format!("bench {name}: {done} operations, {members} members, {ticks} ticks"));
    }

    /// The name that a lane of a bench registers and gives up.
    fn lane_name(&self, lane: u64) -> String {
        format!("bench{}.{lane}", self.core())
    }

    /// Begins what there is a lane for. False if nothing is under way.
    fn fill_lanes(&self) -> bool {
        let core = self.core();
        let mut state = self.state.borrow_mut();
        let Some(Bench { phases, wanted, asked, lanes, refusal, .. }) = &mut state.bench else {
            return false;
        };
        for (number, lane) in lanes.iter_mut().enumerate().filter(|(_, lane)| lane.ticket.is_none()) {
            if *asked >= *wanted || refusal.is_some() {
                break;
            }
            let (name, service) = (self.lane_name(number as u64), lane.turn);
            (*asked, lane.turn) = (*asked + 1, lane.turn + 1);
            lane.ticket = Some(self.desk.ask(match (*phases, service % 2) {
                (Phases::One, _) => Op::Cap(CapOp::Unmap { cap: MEMORY }),
                (Phases::Two, 0) => Op::Name(NameOp::Register { name, place: Place { core, service } }),
                (Phases::Two, _) => Op::Name(NameOp::Unregister { name, core }),
            }));
        }
        lanes.iter().any(|lane| lane.ticket.is_some())
    }

    /// Empties the lanes whose operations have come to their end, if there are any.
    fn poll_lanes(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.borrow_mut();
        let Some(Bench { lanes, done, refusal, .. }) = &mut state.bench else { return Poll::Ready(()) };
        let before = *done;
        for lane in lanes {
            if let Some(ticket) = lane.ticket
                && let Poll::Ready(result) = self.desk.poll_outcome(ticket, context)
            {
                lane.ticket = None;
                *done += 1;
                *refusal = refusal.or(result.err());
            }
        }
        if *done > before { Poll::Ready(()) } else { Poll::Pending }
    }

    fn counts(&self) {
        let (counts, ticks) =
            (self.desk.look(|monitor| monitor.counts()), self.desk.ledger().sums(self.desk.account()).worked);
        self.say(&format!(
            "counts: said {}, heard {}, lines out {}, lines in {}, ticks {ticks}",
            counts.said, counts.heard, counts.lines_out, counts.lines_in
        ));
    }

    fn names(&self) {
        let names = |name: (&str, Place)| format!(" {}@{}", name.0, name.1.core);
        let all = self.desk.look(|monitor| monitor.system().names.iter().map(names).collect::<String>());
        self.say(&format!("names:{all}"));
    }

    fn tasks(&self) {
        let ledger = self.desk.ledger();
        let mut text = String::from("tasks:");
        ledger.each(|account, name, Sums { worked, paid, polls, sent, received }| {
            let name = account.label(name);
            text += &format!(
                " {name} worked {worked} paid {paid} polls {polls} sent {sent} received {received};"
            );
        });
        self.say(&text);
    }
}
