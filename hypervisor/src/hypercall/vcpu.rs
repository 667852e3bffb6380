//! `vcpu_op`: the virtual CPUs of the caller's domain.

use core::sync::atomic::Ordering::Relaxed;

use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::hypercall::vcpu as op;

use super::arguments;
use crate::core::Core;
use crate::core::face::FACES;
use crate::core::message::Request;

#[inline]
pub(super) fn handle(core: &mut Core) -> HypercallResult {
    let [operation, vcpu, ..] = arguments(core);
    let on =
        usize::try_from(vcpu).ok().and_then(|vcpu| core.domain().ok()?.core_of(vcpu)).ok_or(Errno::ENOENT)?;
    match operation {
        op::IS_UP => Ok(FACES[on].up.load(Relaxed).into()),
        op::UP => core.ask(on, Request::Up),
        op::DOWN => core.ask(on, Request::Down),
        _ => Err(Errno::ENOSYS),
    }
}
