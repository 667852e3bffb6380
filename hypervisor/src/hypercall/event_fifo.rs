//! `event_channel_op` for FIFO events: a domain's switch to them, its pages, priorities, and the way back.
//!
//! The checks and their errors are Xen's (`common/event_fifo.c`). As a domain has 4,096 ports, it may give as many words.

use core::sync::atomic::Ordering;

use abi::address::{HostPhys, PAGE_SIZE};
use abi::xen::errno::Errno;
use abi::xen::event_channel::fifo::{CONTROL_BLOCK_BYTES, LINK_BITS, PRIORITY_MIN};
use abi::xen::event_channel::{ExpandArray, InitControl, SetPriority};

use super::places;
use crate::core::Core;
use crate::domain::Domain;
use crate::events;

/// `EVTCHNOP_init_control`: a virtual CPU's control block. With the first the domain switches.
pub(super) fn init_control(core: &mut Core, argument: &mut InitControl) -> Result<(), Errno> {
    argument.link_bits = LINK_BITS;
    let domain = core.domain()?;
    domain.core_of(argument.vcpu as usize).ok_or(Errno::ENOENT)?;
    let offset = u64::from(argument.offset);
    if offset > PAGE_SIZE - CONTROL_BLOCK_BYTES as u64 || !offset.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    let frame = places::pin(core, domain, argument.control_gfn)?;
    let fifo = &domain.place.fifo;
    let block = HostPhys::new(frame.as_u64() + offset);
    if let Err(error) = fifo.set_control(argument.vcpu as usize, block) {
        places::unpin(core, domain, frame);
        return Err(error);
    }
    if fifo.switch_on() {
        // From here on who sends finds no page for the 2-level ABI. Who found it is done with it behind the fence.
        domain.face().shared_info.store(0, Ordering::SeqCst);
        fence(core, domain);
        events::carry_over(core, domain);
    }
    Ok(())
}

/// Waits for all cores that may be about to send to the domain.
fn fence(core: &mut Core, domain: &Domain) {
    let own = domain.cores.iter().fold(0, |cores, &core| cores | 1 << core);
    core.fence(domain.face().acquainted.load(Ordering::SeqCst) | own);
}

/// `EVTCHNOP_expand_array`: one more page of words.
pub(super) fn expand_array(core: &mut Core, argument: ExpandArray) -> Result<(), Errno> {
    let domain = core.domain()?;
    let fifo = &domain.place.fifo;
    if !fifo.is_on() {
        return Err(Errno::EOPNOTSUPP);
    }
    if !fifo.has_room() {
        return Err(Errno::ENOSPC);
    }
    let frame = places::pin(core, domain, argument.array_gfn)?;
    match fifo.add_page(frame) {
        Ok(early) => {
            for port in early {
                let target = domain.ports().get(port)?.target;
                events::raise(core, domain.home(), port, target);
            }
            Ok(())
        }
        Err(error) => {
            places::unpin(core, domain, frame);
            Err(error)
        }
    }
}

/// `EVTCHNOP_set_priority`. An event that is in a queue stays in that one.
pub(super) fn set_priority(core: &mut Core, argument: SetPriority) -> Result<(), Errno> {
    let domain = core.domain()?;
    domain.ports().get(argument.port)?;
    if !domain.place.fifo.is_on() {
        return Err(Errno::ENOSYS);
    }
    if argument.priority > PRIORITY_MIN.into() {
        return Err(Errno::EINVAL);
    }
    domain.ports().set_priority(argument.port, argument.priority as u8)
}

/// The 2-level ABI again, after `EVTCHNOP_reset` has closed all ports.
pub(super) fn reset(core: &mut Core, domain: &'static Domain) {
    let fifo = &domain.place.fifo;
    if !fifo.is_on() {
        return;
    }
    let frames = fifo.reset();
    fence(core, domain);
    fifo.forget();
    domain.face().shared_info.store(domain.shared_info.as_u64(), Ordering::SeqCst);
    for frame in frames {
        places::unpin(core, domain, frame);
    }
}
