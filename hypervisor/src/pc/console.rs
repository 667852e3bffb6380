//! What comes out of a full guest's serial port goes where a para guest's console goes: into Xen's console rings, which
//! domain 0 keeps. The hypervisor has the guest's end of them, since the guest knows of none.

use core::sync::atomic::Ordering::Relaxed;

use abi::address::{GuestPhys, PAGE_SIZE};
use abi::xen::hvm::param;
use io_rings::bytes::{ConsolePage, Reader, Writer};

use crate::domain::Domain;
use crate::memory::physical::{Identity, pointer};

/// The guest's end.
#[derive(Debug)]
pub struct Console {
    keys: Reader<'static, 1024>,
    screen: Writer<'static, 2048>,
    /// The port that domain 0 hears of.
    pub port: u32,
}

impl Console {
    /// The console that domain 0 has made for this domain. `None`: it has made none.
    pub fn of(domain: &Domain) -> Option<Self> {
        let parameter = |index: u32| domain.params.get(index as usize).map_or(0, |value| value.load(Relaxed));
        let at = GuestPhys::new(parameter(param::CONSOLE_PFN).checked_mul(PAGE_SIZE)?);
        let found = domain.view.translate(&Identity, at, ept::Access::Write)?;
        if found.bytes_left < PAGE_SIZE {
            return None;
        }
        // SAFETY: a page of atomics that domain 0 has shared with this domain for as long as that lives; a page, as it
        // begins at one.
        let page = unsafe { &*pointer::<ConsolePage>(found.hpa) };
        let (keys, screen) = page.guest();
        Some(Self { keys, screen, port: parameter(param::CONSOLE_EVTCHN) as u32 })
    }

    /// Prints a byte. `false`: there is no room for it now.
    pub fn print(&mut self, byte: u8) -> bool {
        self.screen.write(&[byte]) == 1
    }

    /// A byte that was typed.
    pub fn key(&mut self) -> Option<u8> {
        let mut key = [0];
        (self.keys.read(&mut key) == 1).then_some(key[0])
    }
}
