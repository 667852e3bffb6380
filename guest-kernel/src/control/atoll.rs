//! Domain 0 on Atoll: the hypercalls behind the trait, and the serial port.
//!
//! Domain 0's memory is mapped where it lies, so an address here is a guest-physical one too.
#![allow(unsafe_code, reason = "hypercalls take addresses, and ports are devices")]

use core::arch::asm;

use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};

use abi::address::GuestPhys;
use abi::control::hypercall::{
    self as operation, AuditReport, CoreInfo, CrashRecord, DomainInfo, MachineInfo,
};
use abi::control::succession::{Failure, Succession};
use abi::control::topology::Topology;
use abi::control::transfer::SECTOR;
use abi::xen::DomId;
use abi::xen::errno::{Errno, HypercallResult};
use abi::xen::event_channel::Port;
use abi::xen::hvm::{self, Param};
use abi::xen::hypercall as number;
use abi::xen::vcpu::HvmContext;
use boot::handover::Handover;
use raw_cpuid::CpuId;
use uart_16550::Uart16550;
use uart_16550::backend::PioBackend;
use zerocopy::{FromBytes, IntoBytes};

use super::hypervisor::{Hypervisor, SharedRange};
use super::serial::{COM2, COM2_GSI, Uart};
use super::transfer;
use crate::platform::atoll::{cpu, hypercall, module};

/// The hypervisor below this domain.
pub struct Atoll;

/// A control hypercall whose arguments hold no address.
fn control(operation: u64, arguments: [u64; 3]) -> HypercallResult {
    let [first, second, third] = arguments;
    // SAFETY: no address of this domain's is among them that the hypervisor would write to.
    unsafe { hypercall::call(number::ATOLL_CONTROL, [operation, first, second, third, 0]) }
}

/// A control hypercall that fills a structure, whose address follows the arguments.
fn fill<T: FromBytes + IntoBytes + Default>(operation: u64, argument: Option<u64>) -> Result<T, Errno> {
    let mut filled = T::default();
    let address = core::ptr::from_mut(&mut filled) as u64;
    let arguments = match argument {
        Some(argument) => [operation, argument, address, 0, 0],
        None => [operation, address, 0, 0, 0],
    };
    // SAFETY: the structure is the one that the operation fills, and every byte pattern is a valid one.
    unsafe { hypercall::call(number::ATOLL_CONTROL, arguments) }?;
    Ok(filled)
}

impl Hypervisor for Atoll {
    fn machine_info(&mut self) -> Result<MachineInfo, Errno> {
        fill(operation::MACHINE_INFO, None)
    }

    fn topology(&mut self) -> Result<Topology, Errno> {
        fill(operation::TOPOLOGY, None)
    }

    fn core_info(&mut self, core: u32) -> Result<CoreInfo, Errno> {
        fill(operation::CORE_INFO, Some(core.into()))
    }

    fn domain_create(&mut self, cores: u64, pages: u64, flags: u64) -> Result<DomId, Errno> {
        let id = control(operation::DOMAIN_CREATE, [cores, pages, flags])?;
        DomId::try_from(id).map_err(|_| Errno::ERANGE)
    }

    fn domain_write(&mut self, domain: DomId, at: GuestPhys, bytes: &[u8]) -> Result<(), Errno> {
        let (address, length) = (bytes.as_ptr() as u64, bytes.len() as u64);
        let arguments = [operation::DOMAIN_WRITE, domain.into(), at.as_u64(), address, length];
        // SAFETY: the hypervisor reads these bytes and no others.
        unsafe { hypercall::call(number::ATOLL_CONTROL, arguments) }.map(drop)
    }

    fn domain_share(&mut self, domain: DomId, there: GuestPhys, here: SharedRange) -> Result<(), Errno> {
        let arguments =
            [operation::DOMAIN_SHARE, domain.into(), there.as_u64(), here.address as u64, here.pages];
        // SAFETY: a `SharedRange` is whole pages of atomics that live for ever: others may write to them at any time.
        unsafe { hypercall::call(number::ATOLL_CONTROL, arguments) }.map(drop)
    }

    fn domain_entry(&mut self, domain: DomId, entry: GuestPhys, start_info: GuestPhys) -> Result<(), Errno> {
        control(operation::DOMAIN_ENTRY, [domain.into(), entry.as_u64(), start_info.as_u64()]).map(drop)
    }

    fn domain_context(&mut self, domain: DomId, start: &HvmContext) -> Result<(), Errno> {
        let address = core::ptr::from_ref(start) as u64;
        // SAFETY: the hypervisor reads a context there, and nothing else.
        unsafe {
            hypercall::call(number::ATOLL_CONTROL, [operation::DOMAIN_CONTEXT, domain.into(), address, 0, 0])
        }
        .map(drop)
    }

    fn domain_firmware(&mut self, domain: DomId, first_frame: u64, pages: u64) -> Result<(), Errno> {
        control(operation::DOMAIN_FIRMWARE, [domain.into(), first_frame, pages]).map(drop)
    }

    fn domain_unpause(&mut self, domain: DomId) -> Result<(), Errno> {
        control(operation::DOMAIN_UNPAUSE, [domain.into(), 0, 0]).map(drop)
    }

    fn domain_pause(&mut self, domain: DomId) -> Result<(), Errno> {
        control(operation::DOMAIN_PAUSE, [domain.into(), 0, 0]).map(drop)
    }

    fn domain_resume(&mut self, domain: DomId) -> Result<(), Errno> {
        control(operation::DOMAIN_RESUME, [domain.into(), 0, 0]).map(drop)
    }

    fn core_off(&mut self, core: u32) -> Result<(), Errno> {
        control(operation::CORE_OFF, [core.into(), 0, 0]).map(drop)
    }

    fn core_on(&mut self, core: u32, processor: u32) -> Result<(), Errno> {
        control(operation::CORE_ON, [core.into(), processor.into(), 0]).map(drop)
    }

    fn successor_create(&mut self, domain: DomId) -> Result<(), Errno> {
        control(operation::SUCCESSOR_CREATE, [domain.into(), 0, 0]).map(drop)
    }

    fn successor_start(
        &mut self,
        domain: DomId,
        entry: GuestPhys,
        start_info: GuestPhys,
        package: GuestPhys,
    ) -> Result<(), Errno> {
        let places = [entry, start_info, package].map(GuestPhys::as_u64);
        let arguments = [operation::SUCCESSOR_START, domain.into(), places[0], places[1], places[2]];
        // SAFETY: no address of this domain's is among them.
        unsafe { hypercall::call(number::ATOLL_CONTROL, arguments) }.map(drop)
    }

    fn successor_failed(&mut self, domain: DomId, why: Failure) -> Result<(), Errno> {
        control(operation::SUCCESSOR_FAILED, [domain.into(), why as u64, 0]).map(drop)
    }

    fn successor_end(&mut self, domain: DomId) -> Result<(), Errno> {
        control(operation::SUCCESSOR_END, [domain.into(), 0, 0]).map(drop)
    }

    fn succession(&mut self, domain: DomId) -> Result<Succession, Errno> {
        let word = control(operation::SUCCESSION, [domain.into(), 0, 0])?;
        Succession::from_word(word).ok_or(Errno::ERANGE)
    }

    fn domain_destroy(&mut self, domain: DomId) -> Result<(), Errno> {
        control(operation::DOMAIN_DESTROY, [domain.into(), 0, 0]).map(drop)
    }

    fn domain_info(&mut self, from: DomId) -> Result<DomainInfo, Errno> {
        fill(operation::DOMAIN_INFO, Some(from.into()))
    }

    fn domain_crash(&mut self, domain: DomId) -> Result<CrashRecord, Errno> {
        fill(operation::DOMAIN_CRASH, Some(domain.into()))
    }

    fn log_read(&mut self, position: u64, into: &mut [u8]) -> Result<usize, Errno> {
        let (address, length) = (into.as_mut_ptr() as u64, into.len());
        // SAFETY: the hypervisor writes as many bytes as there are at most.
        let count = unsafe {
            hypercall::call(number::ATOLL_CONTROL, [operation::LOG_READ, position, address, length as u64, 0])
        }?;
        Ok((count as usize).min(length))
    }

    fn audit(&mut self) -> Result<AuditReport, Errno> {
        fill(operation::AUDIT, None)
    }

    fn machine_stop(&mut self, code: u8) {
        // It does not return; should it, the caller comes again.
        let _ = control(operation::MACHINE_STOP, [code.into(), 0, 0]);
    }

    fn alloc_unbound(&mut self, domain: DomId, remote: DomId) -> Result<Port, Errno> {
        hypercall::alloc_unbound_in(domain, remote)
    }

    fn bind_interdomain(&mut self, remote: DomId, remote_port: Port) -> Result<Port, Errno> {
        hypercall::bind_interdomain(remote, remote_port)
    }

    fn close(&mut self, port: Port) {
        let _ = hypercall::close(port);
    }

    fn send(&mut self, port: Port) {
        let _ = hypercall::send(port);
    }

    fn set_param(&mut self, domain: DomId, index: u32, value: u64) -> Result<(), Errno> {
        let param = Param { domid: domain, pad: 0, index, value };
        let address = core::ptr::from_ref(&param) as u64;
        // SAFETY: the structure of that operation, without addresses, and only read.
        unsafe { hypercall::call(number::HVM_OP, [hvm::SET_PARAM, address, 0, 0, 0]) }.map(drop)
    }

    fn console_write(&mut self, bytes: &[u8]) {
        let _ = hypercall::console_io_write(bytes);
    }

    fn transfer(&mut self, bytes: usize) -> Option<Vec<u8>> {
        transfer::read(&mut Channel, bytes)
    }

    fn ticks(&mut self) -> u64 {
        cpu::tsc()
    }

    fn features(&mut self) -> Vec<String> {
        let cpuid = CpuId::new();
        let mut features = vec![match cpuid.get_processor_brand_string() {
            Some(brand) => String::from(brand.as_str().trim()),
            None => String::from("a processor without a name"),
        }];
        if let Some(info) = cpuid.get_feature_info() {
            features.push(format!(
                "family {:#x}, model {:#x}, stepping {:#x}",
                info.family_id(),
                info.model_id(),
                info.stepping_id()
            ));
        }
        features
    }
}

/// The second ATA channel, whose ports are this domain's.
struct Channel;

impl transfer::Ports for Channel {
    fn read(&mut self, port: u16) -> u8 {
        // SAFETY: the transfer disk's registers; to read one changes nothing but the disk's own state.
        unsafe { x86::io::inb(port) }
    }

    fn write(&mut self, port: u16, value: u8) {
        // SAFETY: the same; programmed I/O, so the disk has no way to memory.
        unsafe { x86::io::outb(port, value) }
    }

    fn read_sector(&mut self, port: u16, sector: &mut [u8; SECTOR]) {
        // SAFETY: fills the array and no more; the direction flag is clear by the calling convention.
        unsafe {
            asm!(
                "rep insw",
                in("dx") port,
                inout("rdi") sector.as_mut_ptr() => _,
                inout("rcx") SECTOR / 2 => _,
                options(nostack, preserves_flags)
            );
        }
    }
}

/// Has the serial port's interrupt come in at `vector`.
pub fn route_serial(vector: u8) -> Result<(), Errno> {
    control(operation::IRQ_ROUTE, [COM2_GSI.into(), vector.into(), 0]).map(drop)
}

/// The boot archive, as the loader handed it over.
pub fn archive(handover: &Handover) -> &'static [u8] {
    module(handover)
}

/// The second serial port, where the machine has one. To be asked for once.
pub fn serial_port() -> Option<Uart<PioBackend>> {
    // SAFETY: the ports are this domain's, nobody else in it uses them, and a UART has no way to memory.
    Uart::new(unsafe { Uart16550::new_port(COM2) }.ok()?)
}
