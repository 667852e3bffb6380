//! `hvm_op`.

use abi::xen::hvm::{self as op, MemType, PagetableDying, Param, Trace, UpcallVector, mem_type, param};
use abi::xen::hypercall::HVM_OP;
use abi::xen::{DOMID_SELF, DomId};
use guest_kernel::platform::atoll::interrupts::UPCALL_VECTOR;

use crate::call::{HOLE, NOBODY, NOWHERE, address, call, frame, with};
use crate::tally::{Error, Tally};

fn get(domid: DomId, index: u32) -> (u64, u64) {
    let mut param = Param { domid, pad: 0, index, value: u64::MAX };
    (with(HVM_OP, op::GET_PARAM, &mut param), param.value)
}

fn set(domid: DomId, index: u32, value: u64) -> u64 {
    with(HVM_OP, op::SET_PARAM, &mut Param { domid, pad: 0, index, value })
}

fn upcall(vcpu: u32, vector: u8) -> u64 {
    with(HVM_OP, op::SET_EVTCHN_UPCALL_VECTOR, &mut UpcallVector { vcpu, vector, pad: [0; 3] })
}

pub fn check(tally: &mut Tally) {
    let taking = [
        op::SET_PARAM,
        op::GET_PARAM,
        op::PAGETABLE_DYING,
        op::GET_TIME,
        op::XENTRACE,
        op::GET_MEM_TYPE,
        op::SET_EVTCHN_UPCALL_VECTOR,
    ];
    for operation in taking {
        let answer = call(HVM_OP, [operation, NOWHERE, 0, 0, 0]);
        tally.check("hvm_op from nowhere", answer, Err(Error::EFAULT));
    }
    for operation in [2, 3, 4, 6, 7, 8, 12, 13, 14, 16, 17, 18, 19, 20, 21, 22, 26, 1 << 32 | op::GET_PARAM] {
        let answer = call(HVM_OP, [operation, NOWHERE, 0, 0, 0]);
        tally.check("hvm_op, no such operation", answer, Err(Error::ENOSYS));
    }
    params(tally);
    other_operations(tally);
}

fn params(tally: &mut Tally) {
    tally.check("get_param, no such", get(NOBODY, param::COUNT).0, Err(Error::EINVAL));
    tally.check("get_param of nobody", get(NOBODY, 0).0, Err(Error::ESRCH));
    tally.refused("get_param of domain 0", || get(0, 0).0, Error::EPERM);
    let readable = [0, 1, 2, 15, 17, 18, 19, 34, 35, 36, 37];
    let deprecated = [4, 13, 20, 21, 22, 23, 24, 25, 26, 30];
    for index in 0..param::COUNT {
        let (wanted, as_expected) = match index {
            _ if readable.contains(&index) => (Ok(0), "get_param"),
            _ if deprecated.contains(&index) => (Err(Error::EINVAL), "get_param, deprecated"),
            _ => (Err(Error::EPERM), "get_param, not a guest's"),
        };
        tally.check(as_expected, get(DOMID_SELF, index).0, wanted);
    }
    tally.check("get_param by number", get(tally.own, param::CALLBACK_IRQ).0, Ok(0));

    tally.check("set_param, no such", set(NOBODY, param::COUNT, 0), Err(Error::EINVAL));
    tally.check("set_param of nobody", set(NOBODY, 0, 0), Err(Error::ESRCH));
    tally.refused("set_param of domain 0", || set(0, 0, 0), Error::EPERM);
    for index in [1, 3, 5, 6, 9, 10, 11, 12, 14, 16, 17, 27, 31, 32, 33, 35, 38] {
        tally.check("set_param, not a guest's", set(DOMID_SELF, index, 0), Err(Error::EPERM));
    }
    for index in deprecated {
        tally.check("set_param, deprecated", set(DOMID_SELF, index, 0), Err(Error::EINVAL));
    }
    tally.check("set_param callback_irq", set(DOMID_SELF, param::CALLBACK_IRQ, 1), Ok(0));
    tally.equal("callback_irq", get(DOMID_SELF, param::CALLBACK_IRQ).1, 1);
    for index in [param::STORE_EVTCHN, param::CONSOLE_EVTCHN] {
        let (_, port) = get(DOMID_SELF, index);
        tally.check("set_param of an event channel", set(DOMID_SELF, index, port), Ok(0));
    }
    tally.check("set_param generation id", set(DOMID_SELF, param::VM_GENERATION_ID_ADDR, 0x5000), Ok(0));
    tally.equal("generation id", get(DOMID_SELF, param::VM_GENERATION_ID_ADDR).1, 0x5000);
    let ports = set(DOMID_SELF, param::ACPI_IOPORTS_LOCATION, 1);
    tally.check("set_param acpi_ioports, no timer", ports, Err(Error::ENODEV));
    tally.check("set_param x87_fip_width", set(DOMID_SELF, param::X87_FIP_WIDTH, 8), Ok(0));
    tally.equal("x87_fip_width", get(DOMID_SELF, param::X87_FIP_WIDTH).1, 8);
    tally.check("set_param x87_fip_width", set(DOMID_SELF, param::X87_FIP_WIDTH, 5), Err(Error::EINVAL));
    tally.check("set_param vm86_tss", set(DOMID_SELF, param::VM86_TSS, 0x5000), Ok(0));
    tally.equal("vm86_tss", get(DOMID_SELF, param::VM86_TSS).1, 0x5000);
    tally.equal("vm86_tss_sized", get(DOMID_SELF, param::VM86_TSS_SIZED).1, 128 << 32 | 0x5000);
}

fn other_operations(tally: &mut Tally) {
    tally.check("upcall vector of an exception", upcall(0, 15), Err(Error::EINVAL));
    tally.check("upcall vector of an exception of nobody", upcall(1000, 15), Err(Error::EINVAL));
    tally.check("upcall vector of nobody", upcall(1000, 0xe0), Err(Error::ENOENT));
    tally.check("upcall vector", upcall(0, UPCALL_VECTOR), Ok(0));

    tally.check("flush_tlbs", call(HVM_OP, [op::FLUSH_TLBS, 0, 0, 0, 0]), Ok(0));
    tally.check("flush_tlbs of something", call(HVM_OP, [op::FLUSH_TLBS, 8, 0, 0, 0]), Err(Error::EINVAL));
    let event = |argument| call(HVM_OP, [op::GUEST_REQUEST_VM_EVENT, argument, 0, 0, 0]);
    tally.check("guest_request_vm_event", event(0), Ok(0));
    tally.check("guest_request_vm_event of something", event(8), Err(Error::EINVAL));
    let altp2m = call(HVM_OP, [op::ALTP2M, NOWHERE, 0, 0, 0]);
    tally.either("altp2m", altp2m, [Error::EOPNOTSUPP, Error::EFAULT]);

    let dying = |domid| with(HVM_OP, op::PAGETABLE_DYING, &mut PagetableDying { domid, pad: [0; 3], gpa: 0 });
    tally.check("pagetable_dying", dying(DOMID_SELF), Err(Error::EINVAL));
    tally.check("pagetable_dying of nobody", dying(NOBODY), Err(Error::ESRCH));
    tally.refused("pagetable_dying of domain 0", || dying(0), Error::EOPNOTSUPP);

    let mut times = [0u64; 2];
    for time in &mut times {
        tally.check("get_time", with(HVM_OP, op::GET_TIME, time), Ok(0));
    }
    tally.that("time goes on", times[1], times[0] > 0 && times[1] > times[0]);

    let trace =
        |event, extra_bytes| with(HVM_OP, op::XENTRACE, &mut Trace { event, extra_bytes, extra: [0; 28] });
    tally.check("xentrace", trace(0xfff, 28), Ok(0));
    tally.check("xentrace of too much", trace(0, 29), Err(Error::EINVAL));
    tally.check("xentrace of another class", trace(0x1000, 0), Err(Error::EINVAL));

    let kind = |domid, pfn| {
        let mut argument = MemType { domid, mem_type: 9, pad: [0; 2], pfn };
        (call(HVM_OP, [op::GET_MEM_TYPE, address(&mut argument), 0, 0, 0]), u64::from(argument.mem_type))
    };
    tally.check("get_mem_type of nobody", kind(NOBODY, 0).0, Err(Error::ESRCH));
    tally.refused("get_mem_type of domain 0", || kind(0, 0).0, Error::EPERM);
    tally.check("get_mem_type", kind(DOMID_SELF, frame(0)).0, Ok(0));
    tally.equal("type of RAM", kind(DOMID_SELF, frame(0)).1, mem_type::RAM_RW.into());
    tally.equal("type of a hole", kind(DOMID_SELF, HOLE).1, mem_type::MMIO_DM.into());
}
