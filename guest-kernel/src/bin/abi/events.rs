//! `event_channel_op`, and what a guest without grants or FIFO events hears of those.

use abi::xen::event_channel::{
    self as op, AllocUnbound, BindInterdomain, BindIpi, BindVirq, OnePort, Status, status, virq,
};
use abi::xen::hypercall::EVENT_CHANNEL_OP;
use abi::xen::{DOMID_SELF, DomId};

use crate::call::{NOBODY, NOWHERE, call, with};
use crate::tally::{Error, Tally};

/// A virtual CPU that no guest has.
const NO_VCPU: u32 = 1000;
/// Ports that were never allocated: one that a table may have room for, and one beyond any.
const CLOSED: u32 = 60;
const BEYOND: u32 = u32::MAX;

/// A port of this domain's for another to bind to.
pub fn unbound(dom: DomId, remote_dom: DomId) -> (u64, u32) {
    let mut argument = AllocUnbound { dom, remote_dom, port: 0 };
    (with(EVENT_CHANNEL_OP, op::ALLOC_UNBOUND, &mut argument), argument.port)
}

/// A port that this domain sends to itself by.
pub fn ipi(vcpu: u32) -> (u64, u32) {
    let mut argument = BindIpi { vcpu, port: 0 };
    (with(EVENT_CHANNEL_OP, op::BIND_IPI, &mut argument), argument.port)
}

/// Close, send or unmask.
pub fn one(operation: u64, port: u32) -> u64 {
    with(EVENT_CHANNEL_OP, operation, &mut OnePort { port })
}

fn bind_virq(virq: u32, vcpu: u32) -> (u64, u32) {
    let mut argument = BindVirq { virq, vcpu, port: 0 };
    (with(EVENT_CHANNEL_OP, op::BIND_VIRQ, &mut argument), argument.port)
}

fn interdomain(remote_dom: DomId, remote_port: u32) -> (u64, u32) {
    let mut argument = BindInterdomain { remote_dom, pad: 0, remote_port, local_port: 0 };
    (with(EVENT_CHANNEL_OP, op::BIND_INTERDOMAIN, &mut argument), argument.local_port)
}

fn status_of(dom: DomId, port: u32) -> (u64, Status) {
    let mut argument = Status { dom, port, ..Status::default() };
    (with(EVENT_CHANNEL_OP, op::STATUS, &mut argument), argument)
}

/// Port and virtual CPU.
fn bind_vcpu(port: u32, vcpu: u32) -> u64 {
    with(EVENT_CHANNEL_OP, op::BIND_VCPU, &mut [port, vcpu])
}

pub fn check(tally: &mut Tally) {
    for operation in 0..=10 {
        let answer = call(EVENT_CHANNEL_OP, [operation, NOWHERE, 0, 0, 0]);
        tally.check("event_channel_op from nowhere", answer, Err(Error::EFAULT));
    }
    for operation in [15, 0xffff_ffff] {
        let answer = call(EVENT_CHANNEL_OP, [operation, NOWHERE, 0, 0, 0]);
        tally.check("event_channel_op, no such operation", answer, Err(Error::ENOSYS));
    }
    between_domains(tally);
    of_one_domain(tally);
    ports_that_are_not(tally);
}

fn between_domains(tally: &mut Tally) {
    tally.check("alloc_unbound in nobody", unbound(NOBODY, 0).0, Err(Error::ESRCH));
    tally.refused("alloc_unbound in domain 0", || unbound(0, 0).0, Error::EPERM);
    tally.check("bind_interdomain to nobody", interdomain(NOBODY, 1).0, Err(Error::ESRCH));
    let (answer, port) = unbound(DOMID_SELF, DOMID_SELF);
    tally.check("alloc_unbound", answer, Ok(0));
    tally.that("its port", port.into(), port != 0);
    let own = tally.own;
    let (answer, seen) = status_of(DOMID_SELF, port);
    tally.check("status", answer, Ok(0));
    tally.equal("status of an unbound port", seen.status.into(), status::UNBOUND.into());
    tally.equal("for whom it waits", (seen.dom_or_virq & 0xffff).into(), own.into());
    tally.check("send to nobody yet", one(op::SEND, port), Ok(0));
    let (answer, local) = interdomain(DOMID_SELF, port);
    tally.check("bind_interdomain", answer, Ok(0));
    tally.check("bind_interdomain again", interdomain(DOMID_SELF, port).0, Err(Error::EINVAL));
    let (_, seen) = status_of(own, local);
    tally.equal("status of a bound port", seen.status.into(), status::INTERDOMAIN.into());
    tally.check("send", one(op::SEND, local), Ok(0));
    tally.check("bind_vcpu", bind_vcpu(local, 0), Ok(0));
    tally.check("bind_vcpu to nobody", bind_vcpu(local, NO_VCPU), Err(Error::ENOENT));
    tally.check("close", one(op::CLOSE, local), Ok(0));
    let (_, seen) = status_of(DOMID_SELF, port);
    tally.equal("the other end waits again", seen.status.into(), status::UNBOUND.into());
    tally.check("close", one(op::CLOSE, port), Ok(0));
    tally.check("close again", one(op::CLOSE, port), Err(Error::EINVAL));
    let (_, seen) = status_of(DOMID_SELF, port);
    tally.equal("status of a closed port", seen.status.into(), status::CLOSED.into());
    let answer = interdomain(DOMID_SELF, port).0;
    tally.check("bind_interdomain to a closed port", answer, Err(Error::EINVAL));
    tally.check("status of nobody", status_of(NOBODY, 1).0, Err(Error::ESRCH));
    tally.refused("reset of domain 0", || with(EVENT_CHANNEL_OP, op::RESET, &mut [0u16; 4]), Error::EPERM);
    let reset = with(EVENT_CHANNEL_OP, op::RESET, &mut [NOBODY; 4]);
    tally.check("reset of nobody", reset, Err(Error::ESRCH));
}

fn of_one_domain(tally: &mut Tally) {
    tally.check("bind_ipi of nobody", ipi(NO_VCPU).0, Err(Error::ENOENT));
    let (answer, port) = ipi(0);
    tally.check("bind_ipi", answer, Ok(0));
    tally.check("send to oneself", one(op::SEND, port), Ok(0));
    tally.check("bind_vcpu of an IPI", bind_vcpu(port, 0), Err(Error::EINVAL));
    tally.check("unmask", one(op::UNMASK, port), Ok(0));
    tally.check("close", one(op::CLOSE, port), Ok(0));

    const DEBUG: u32 = 1;
    tally.check("bind_virq, no such", bind_virq(virq::COUNT, 0).0, Err(Error::EINVAL));
    tally.check("bind_virq, no such", bind_virq(u32::MAX, 0).0, Err(Error::EINVAL));
    tally.check("bind_virq of nobody", bind_virq(DEBUG, NO_VCPU).0, Err(Error::ENOENT));
    let (answer, port) = bind_virq(DEBUG, 0);
    tally.check("bind_virq", answer, Ok(0));
    tally.check("bind_virq again", bind_virq(DEBUG, 0).0, Err(Error::EEXIST));
    tally.check("bind_vcpu of a virtual CPU's own interrupt", bind_vcpu(port, 0), Err(Error::EINVAL));
    tally.check("send to a virtual interrupt", one(op::SEND, port), Err(Error::EINVAL));
    let (_, seen) = status_of(DOMID_SELF, port);
    tally.equal("status of a virtual interrupt", seen.status.into(), status::VIRQ.into());
    tally.equal("its number", seen.dom_or_virq.into(), DEBUG.into());
    tally.check("close", one(op::CLOSE, port), Ok(0));
    let (answer, port) = bind_virq(DEBUG, 0);
    tally.check("bind_virq after that", answer, Ok(0));
    tally.check("close", one(op::CLOSE, port), Ok(0));
}

fn ports_that_are_not(tally: &mut Tally) {
    for operation in [op::CLOSE, op::SEND] {
        tally.check("a closed port", one(operation, CLOSED), Err(Error::EINVAL));
        tally.check("port 0", one(operation, 0), Err(Error::EINVAL));
        tally.check("a port beyond all", one(operation, BEYOND), Err(Error::EINVAL));
    }
    tally.check("unmask of a port beyond all", one(op::UNMASK, BEYOND), Err(Error::EINVAL));
    tally.check("status of a port beyond all", status_of(DOMID_SELF, BEYOND).0, Err(Error::EINVAL));
    tally.check("bind_vcpu of a port beyond all", bind_vcpu(BEYOND, 0), Err(Error::EINVAL));
    let answer = interdomain(DOMID_SELF, BEYOND).0;
    tally.check("bind_interdomain to a port beyond all", answer, Err(Error::EINVAL));
}
