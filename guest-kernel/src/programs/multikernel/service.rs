//! Servers and clients: calls between cores, and within one.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use io_rings::PeerBroken;
use io_rings::rpc::{CallId, Window};

use super::App;
use super::state::{Calls, Server};
use crate::mesh::WORDS;
use crate::replica::Op;
use crate::replica::names::{NameOp, Place};
use crate::tasks::Crowded;
use crate::tasks::desk::{Listener, NotOpen};
use crate::tasks::pages::Page;
use crate::tasks::rpc::{self, Body, Client, WIDEST};
use crate::tasks::wire::Wire;

/// The first number of a server's service; lower ones are the console's.
const FIRST_SERVICE: u64 = 16;

/// What a server makes of a call: anything, so long as a client can tell whether it is the answer to what it asked.
fn answer_to<const COUNT: usize>(body: &[u64; COUNT]) -> [u64; COUNT] {
    body.map(|word| word.wrapping_mul(3).wrapping_add(1))
}

/// The same, of each word of a page.
fn answer_in(words: &[AtomicU64; WORDS]) {
    for word in words {
        let [answer] = answer_to(&[word.load(Ordering::Relaxed)]);
        word.store(answer, Ordering::Relaxed);
    }
}

/// What a client asks with its call of this number, in the words of a page.
fn ask_in(words: &[AtomicU64; WORDS], call: u64) {
    words.iter().zip(call..).for_each(|(word, ask)| word.store(ask, Ordering::Relaxed));
}

/// Whether these are the answers to that.
fn is_answered(words: &[AtomicU64; WORDS], call: u64) -> bool {
    words.iter().zip(call..).all(|(word, ask)| answer_to(&[ask]) == [word.load(Ordering::Relaxed)])
}

impl App {
    /// Begins the tasks of what was under way.
    pub(super) fn resume_services(self: &Rc<Self>) -> Result<(), Crowded> {
        let (servers, calls) = {
            let state = self.state.borrow();
            (state.servers.len(), state.calls.iter().map(|calls| calls.name.clone()).collect::<Vec<_>>())
        };
        for server in 0..servers {
            self.begin_server(server)?;
        }
        for name in calls {
            self.spawner.spawn("client", self.clone().client(name))?;
        }
        Ok(())
    }

    /// Begins a server.
    pub(super) fn serve(self: &Rc<Self>, name: &str) {
        let server = {
            let mut state = self.state.borrow_mut();
            let service = FIRST_SERVICE + state.next_service;
            state.next_service += 1;
            let (name, clients) = (name.to_string(), Vec::new());
            state.servers.push(Server { name, service, registered: None, clients, served: 0 });
            state.servers.len() - 1
        };
        if self.begin_server(server).is_err() {
            self.state.borrow_mut().servers.pop();
            self.say(&format!("serve {name}: too many tasks"));
        }
    }

    fn begin_server(self: &Rc<Self>, server: usize) -> Result<(), Crowded> {
        let Some(service) = self.of_server(server, |own| own.service) else { return Ok(()) };
        // At once: whoever knocks already is not to be sent away.
        let listener = self.desk.offer(service);
        self.spawner.spawn("server", self.clone().server(server, listener)).map(drop)
    }

    fn of_server<T>(&self, server: usize, look: impl FnOnce(&mut Server) -> T) -> Option<T> {
        self.state.borrow_mut().servers.get_mut(server).map(look)
    }

    /// Registers the name, and begins a task for each client.
    async fn server(self: Rc<Self>, server: usize, listener: Listener) {
        let Some(Server { name, service, registered, clients, .. }) =
            self.of_server(server, |own| own.clone())
        else {
            return;
        };
        for number in clients {
            match self.desk.resume(number, true) {
                Some(wire) => self.welcome(server, wire),
                None => self.goodbye(server, number),
            }
        }
        let place = Place { core: self.core(), service };
        if self.desk.look(|monitor| monitor.system().names.look_up(&name)) != Some(place) {
            let ticket = registered
                .unwrap_or_else(|| self.desk.ask(Op::Name(NameOp::Register { name: name.clone(), place })));
            self.of_server(server, |own| own.registered = Some(ticket));
            match self.desk.outcome(ticket).await {
                Ok(()) => self.say(&format!("serve {name}: done")),
                // Its number stays, for those behind it have theirs; it has no clients.
                Err(refusal) => return self.say(&format!("serve {name}: refused: {refusal:?}")),
            }
        }
        loop {
            let wire = listener.accept().await;
            if let Some(number) = wire.number() {
                self.of_server(server, |own| own.clients.push(number));
            }
            self.welcome(server, wire);
        }
    }

    /// A client's wire has a task that answers its calls. Where there is none for it, the client is sent away.
    fn welcome(self: &Rc<Self>, server: usize, wire: Wire) {
        let number = wire.number();
        if self.spawner.spawn("answers", self.clone().answers(server, wire)).is_err()
            && let Some(number) = number
        {
            self.goodbye(server, number);
        }
    }

    fn goodbye(&self, server: usize, number: u32) {
        self.of_server(server, |own| own.clients.retain(|&client| client != number));
    }

    async fn answers(self: Rc<Self>, server: usize, mut wire: Wire) {
        let number = wire.number();
        let served = || _ = self.of_server(server, |own| own.served += 1);
        let answer = |body: &Body| {
            served();
            answer_to(body)
        };
        let work = |page: &mut Page| {
            served();
            page.with(answer_in)
        };
        rpc::serve_all(&mut wire, answer, work).await;
        if let Some(number) = number {
            self.goodbye(server, number);
        }
    }

    /// Begins a client.
    pub(super) fn call(self: &Rc<Self>, name: &str, wanted: u64, depth: u32, pages: bool) {
        if self.state.borrow().calls.iter().any(|calls| calls.name == name) {
            return self.say(&format!("call {name}: busy"));
        }
        let begun = self.spawner.ledger().now();
        let (name, asked) = (name.to_string(), vec![0; WIDEST]);
        let calls = Calls {
            name: name.clone(),
            wanted,
            depth,
            pages,
            made: 0,
            answered: 0,
            wrong: 0,
            begun,
            channel: None,
            in_flight: 0,
            is_near: false,
            asked,
        };
        self.state.borrow_mut().calls.push(calls);
        if self.spawner.spawn("client", self.clone().client(name.clone())).is_err() {
            self.state.borrow_mut().calls.pop();
            self.say(&format!("call {name}: too many tasks"));
        }
    }

    fn of_calls<T>(&self, name: &str, look: impl FnOnce(&mut Calls) -> T) -> Option<T> {
        self.state.borrow_mut().calls.iter_mut().find(|calls| calls.name == name).map(look)
    }

    async fn client(self: Rc<Self>, name: alloc::string::String) {
        let result = self.calls(&name).await;
        let mut state = self.state.borrow_mut();
        let Some(index) = state.calls.iter().position(|calls| calls.name == name) else { return };
        let Calls { answered, wrong, begun, .. } = state.calls.remove(index);
        let ticks = self.spawner.ledger().now().saturating_sub(begun);
        match result {
            Ok(()) => self.say(&format!("call {name}: {answered} calls, {wrong} wrong, {ticks} ticks")),
            Err(Unserved::NotOpen(why)) => self.say(&format!("call {name}: {why:?}")),
            Err(Unserved::Gone) => self.say(&format!("call {name}: gone after {answered} calls")),
        }
    }

    /// Makes the calls. What was made and answered is written down with each.
    async fn calls(self: &Rc<Self>, name: &str) -> Result<(), Unserved> {
        let begun =
            self.of_calls(name, |calls| (calls.depth as usize, calls.pages, calls.channel, calls.in_flight));
        let Some((depth, pages, channel, in_flight)) = begun else { return Ok(()) };
        let mut client = match channel {
            Some(number) => {
                let wire = self.desk.resume(number, false).ok_or(Unserved::Gone)?;
                Client::resume(wire, Window::resume(depth.min(WIDEST), in_flight))
            }
            None => Client::new(self.desk.begin_to_open(name).map_err(Unserved::NotOpen)?, depth),
        };
        let number = client.number();
        self.of_calls(name, |calls| (calls.channel, calls.is_near) = (number, number.is_none()));
        if !client.opened().await {
            return Err(Unserved::NotOpen(NotOpen::Refused));
        }
        loop {
            let in_flight = client.window().in_flight();
            self.of_calls(name, |calls| calls.in_flight = in_flight);
            let Some((wanted, made, answered)) = self.of_calls(name, |c| (c.wanted, c.made, c.answered))
            else {
                return Ok(());
            };
            if answered == wanted {
                return Ok(());
            }
            let rests = number.is_none() && self.drains.get();
            if rests && in_flight == 0 {
                // It goes on here if nobody takes over.
                self.spawner.yield_now().await;
                continue;
            }
            if made < wanted
                && !rests
                && let Some(call) = ask(&mut client, pages, made).await?
            {
                self.of_calls(name, |calls| {
                    calls.made += 1;
                    if let Some(asked) = calls.asked.get_mut(call.word() as usize) {
                        *asked = made;
                    }
                });
                continue;
            }
            let asked = |call: CallId| {
                let asked = |calls: &mut Calls| calls.asked.get(call.word() as usize).copied();
                self.of_calls(name, asked).flatten().unwrap_or(u64::MAX)
            };
            let is_right = if pages {
                let (call, page) = client.answer_with().await?;
                page.with(|words| is_answered(words, asked(call)))?
            } else {
                let (call, body) = client.answer().await?;
                let asked = asked(call);
                body == answer_to(&[asked, !asked, 0, 0, 0])
            };
            self.of_calls(name, |calls| {
                calls.answered += 1;
                calls.wrong += u64::from(!is_right);
            });
        }
    }
}

/// Makes the call of this number, if the window has a place for it; with a page, if one is free or will be without an answer
/// being read.
async fn ask(client: &mut Client, pages: bool, made: u64) -> Result<Option<CallId>, PeerBroken> {
    if !pages {
        return client.call([made, !made, 0, 0, 0]).await;
    }
    if client.window().next().is_none() {
        return Ok(None);
    }
    let page = match client.free_page() {
        Some(page) => page,
        None if client.window().in_flight() == 0 => client.page().await?,
        None => return Ok(None),
    };
    page.with(|words| ask_in(words, made))?;
    client.call_with(page).await
}

/// Why a client gave up.
enum Unserved {
    NotOpen(NotOpen),
    Gone,
}

impl From<PeerBroken> for Unserved {
    fn from(_: PeerBroken) -> Self {
        Self::Gone
    }
}
