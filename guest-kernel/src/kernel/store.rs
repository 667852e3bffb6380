//! The kernel's line to xenstore: it is asked there to power off, to reboot or to suspend itself, and does; everything else is the program's.
//!
//! The toolstack writes a word to `control/shutdown`; the guest takes it by writing nothing there, and acts.

use abi::control::succession::HANDED_OVER;
use abi::xen::event_channel::Port;
use abi::xen::sched::reason;
use io_rings::bytes::XenstorePage;

use crate::xenstore::client::{Client, News, Ticket};
use crate::xenstore::wire::PageEnd;

/// Where the word is left.
const SHUTDOWN: &str = "control/shutdown";
/// The token of the kernel's own watch.
const TOKEN: &str = "kernel:shutdown";

/// The line.
#[derive(Debug)]
pub struct Store {
    /// Requests go in here.
    pub client: Client<PageEnd>,
    port: Port,
    /// The word was asked for.
    asked: Option<Ticket>,
    ordered: Option<u32>,
}

impl Store {
    /// A line over the ring in this page; it says at once what the guest can be asked for, and listens.
    pub fn new(page: &'static XenstorePage, port: Port) -> Self {
        let mut client = Client::new(PageEnd::guest(page));
        for feature in ["control/feature-poweroff", "control/feature-reboot", "control/feature-suspend"] {
            client.write(None, feature, b"1");
        }
        client.watch(SHUTDOWN, TOKEN);
        Self { client, port, asked: None, ordered: None }
    }

    /// Says that the guest's kernel can be asked to hand over to another one.
    pub fn offer_replace(&mut self) {
        self.client.write(None, "control/feature-replace", b"1");
    }

    /// Whether another kernel could go on over the same ring.
    pub fn is_quiet(&self) -> bool {
        self.ordered.is_none() && self.client.is_quiet()
    }

    /// Its port.
    pub fn port(&self) -> Port {
        self.port
    }

    /// The [reason](abi::xen::sched::reason) to stop for, or [`HANDED_OVER`] for another kernel to take over, once the toolstack has asked for it.
    pub fn ordered(&mut self) -> Option<u32> {
        self.ordered.take()
    }

    /// The next news that are not the kernel's own.
    pub fn take(&mut self) -> Option<News> {
        // A store that broke the wire's rules says nothing more, and the kernel goes on without it.
        while let Ok(Some(news)) = self.client.poll() {
            match news {
                News::Changed { ref token, .. } if token == TOKEN => {
                    self.asked = Some(self.client.read(None, SHUTDOWN));
                }
                News::Answer { ticket, result } if self.asked == Some(ticket) => {
                    self.asked = None;
                    self.obey(&result.unwrap_or_default());
                }
                other => return Some(other),
            }
        }
        None
    }

    fn obey(&mut self, word: &[u8]) {
        let reason = match word {
            b"poweroff" | b"halt" => reason::POWEROFF,
            b"reboot" => reason::REBOOT,
            b"suspend" => reason::SUSPEND,
            b"replace" => HANDED_OVER,
            // None was left, or one for others.
            _ => return,
        };
        self.client.write(None, SHUTDOWN, b"");
        self.ordered = Some(reason);
    }
}
