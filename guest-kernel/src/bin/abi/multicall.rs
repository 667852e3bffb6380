//! `multicall`.

use abi::xen::hypercall::{MULTICALL, MulticallEntry, SCHED_OP, XEN_VERSION};
use abi::xen::sched;
use abi::xen::version::{FeatureInfo, GET_FEATURES, VERSION};
use alloc::vec;

use crate::call::{NOWHERE, address, call};
use crate::tally::{Error, Tally};

fn entry(op: u64, args: [u64; 2]) -> MulticallEntry {
    MulticallEntry { op, result: 0x5555, args: [args[0], args[1], 0, 0, 0, 0] }
}

fn of(entries: &mut [MulticallEntry]) -> u64 {
    call(MULTICALL, [address(entries), entries.len() as u64, 0, 0, 0])
}

pub fn check(tally: &mut Tally) {
    tally.check("multicall of nothing", call(MULTICALL, [NOWHERE, 0, 0, 0, 0]), Ok(0));
    tally.check("multicall from nowhere", call(MULTICALL, [NOWHERE, 1, 0, 0, 0]), Err(Error::EFAULT));
    let truncated = call(MULTICALL, [NOWHERE, 1 << 32, 0, 0, 0]);
    tally.check("multicall, count of 32 bits", truncated, Ok(0));

    let mut info = FeatureInfo::default();
    let mut list = [
        entry(XEN_VERSION, [VERSION, 0]),
        entry(XEN_VERSION, [GET_FEATURES, address(&mut info)]),
        entry(XEN_VERSION, [GET_FEATURES, NOWHERE]),
        entry(1000, [0, 0]),
        entry(MULTICALL, [NOWHERE, 0]),
        entry(SCHED_OP, [sched::YIELD, 0]),
    ];
    tally.check("multicall", of(&mut list), Ok(0));
    tally.equal("its version", list[0].result, call(XEN_VERSION, [VERSION, 0, 0, 0, 0]));
    tally.check("its features", list[1].result, Ok(0));
    tally.that("what they are", info.submap.into(), info.submap != 0);
    tally.check("its pointer to nowhere", list[2].result, Err(Error::EFAULT));
    tally.check("its call that is not there", list[3].result, Err(Error::ENOSYS));
    tally.check("its multicall", list[4].result, Err(Error::EINVAL));
    tally.check("its yield", list[5].result, Ok(0));
    tally.equal("arguments as before", list[2].args[1], NOWHERE);

    // Across pages, and long enough for a hypervisor to pause in it.
    let mut long = vec![entry(XEN_VERSION, [VERSION, 0]); 5000];
    tally.check("a long multicall", of(&mut long), Ok(0));
    let answered = long.iter().filter(|entry| entry.result == list[0].result).count();
    tally.equal("its answers", answered as u64, long.len() as u64);
}
