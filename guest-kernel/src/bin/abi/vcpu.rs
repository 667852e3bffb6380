//! `vcpu_op`, on virtual CPU 0.

use abi::xen::hypercall::VCPU_OP;

use crate::call::{HOLE, NOWHERE, address, call, frame};
use crate::tally::{Error, Tally};

/// A virtual CPU that no guest has.
const NO_VCPU: u64 = 1000;

/// `VCPUOP_*`.
const INITIALISE: u64 = 0;
const UP: u64 = 1;
const IS_UP: u64 = 3;
const GET_RUNSTATE_INFO: u64 = 4;
const REGISTER_RUNSTATE_MEMORY_AREA: u64 = 5;
const SET_PERIODIC_TIMER: u64 = 6;
const STOP_PERIODIC_TIMER: u64 = 7;
const SET_SINGLESHOT_TIMER: u64 = 8;
const STOP_SINGLESHOT_TIMER: u64 = 9;
const REGISTER_VCPU_INFO: u64 = 10;
const SEND_NMI: u64 = 11;
const GET_PHYSID: u64 = 12;
const REGISTER_VCPU_TIME_MEMORY_AREA: u64 = 13;

fn of(operation: u64, argument: u64) -> u64 {
    call(VCPU_OP, [operation, 0, argument, 0, 0])
}

pub fn check(tally: &mut Tally) {
    for operation in 0..=13 {
        let answer = call(VCPU_OP, [operation, NO_VCPU, NOWHERE, 0, 0]);
        tally.check("vcpu_op of nobody", answer, Err(Error::ENOENT));
    }
    for operation in [14, 99, 0xffff_ffff] {
        tally.check("vcpu_op, no such operation", of(operation, NOWHERE), Err(Error::ENOSYS));
    }
    let taking = [
        INITIALISE,
        GET_RUNSTATE_INFO,
        SET_PERIODIC_TIMER,
        SET_SINGLESHOT_TIMER,
        REGISTER_VCPU_INFO,
        REGISTER_RUNSTATE_MEMORY_AREA,
        REGISTER_VCPU_TIME_MEMORY_AREA,
    ];
    for operation in taking {
        tally.check("vcpu_op from nowhere", of(operation, NOWHERE), Err(Error::EFAULT));
    }
    tally.check("is_up", of(IS_UP, 0), Ok(1));
    tally.check("up, of one that is", of(UP, 0), Ok(0));
    tally.check("send_nmi with an argument", of(SEND_NMI, 8), Err(Error::EINVAL));
    tally.refused("get_physid", || of(GET_PHYSID, NOWHERE), Error::EINVAL);

    let mut runstate = [u64::MAX; 6];
    tally.check("get_runstate_info", of(GET_RUNSTATE_INFO, address(&mut runstate)), Ok(0));
    tally.equal("state: running", runstate[0] & 0xffff_ffff, 0);

    tally.check("stop_periodic_timer", of(STOP_PERIODIC_TIMER, 0), Ok(0));
    let period = |nanoseconds: u64| of(SET_PERIODIC_TIMER, address(&mut [nanoseconds]));
    tally.check("set_periodic_timer, too often", period(999_999), Err(Error::EINVAL));
    tally.check("set_periodic_timer, too seldom", period(u64::MAX), Err(Error::EINVAL));
    tally.check("set_periodic_timer", period(1_000_000_000), Ok(0));
    tally.check("stop_periodic_timer", of(STOP_PERIODIC_TIMER, 0), Ok(0));
    tally.check("set_singleshot_timer in the past", of(SET_SINGLESHOT_TIMER, address(&mut [1u64, 0])), Ok(0));
    let far = 1u64 << 60;
    tally.check("set_singleshot_timer", of(SET_SINGLESHOT_TIMER, address(&mut [far, 0])), Ok(0));
    tally.check("stop_singleshot_timer", of(STOP_SINGLESHOT_TIMER, 0), Ok(0));

    let info = |frame: u64, offset: u32| of(REGISTER_VCPU_INFO, address(&mut [frame, offset.into()]));
    tally.check("register_vcpu_info across pages", info(frame(7), 4096 - 63), Err(Error::ENXIO));
    tally.check("register_vcpu_info, not aligned", info(frame(7), 4), Err(Error::ENXIO));
    tally.check("register_vcpu_info in a hole", info(HOLE, 0), Err(Error::EINVAL));
}
