//! The processor under the hypervisor: what a program may not do by itself is trapped and emulated.
//!
//! The hypervisor's own code runs here as it is, in threads of an ordinary process, a thread a core. A privileged
//! instruction raises a signal there; the handler decodes it, does what this model of a processor has for it, and goes on
//! behind it. The model is as small as it can be: two VMCSs that keep what is written, MSRs that do so too, an interrupt
//! command register that sends NMIs and nothing else, and translation caches that are empty.

use std::cell::UnsafeCell;
use std::io::Write;
use std::ptr::null_mut;
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use hypervisor::core::Core;
use iced_x86::{Code, Decoder, DecoderOptions, Instruction, OpKind, Register};
use libc::{c_int, c_void, siginfo_t, ucontext_t};
use vmx::crossing::Frame;

use crate::machine::CORES;

/// VMCS fields by width, type and index (SDM 3D, "Field Encoding in VMCS").
const FIELDS: usize = 1 << 11;
/// MSRs by their low bits: those the hypervisor uses do not collide.
const MSRS: usize = 1 << 13;

/// The interrupt command register in x2APIC mode, and its delivery mode for NMIs (SDM 3A, "Interrupt Command Register").
const INTERRUPT_COMMAND: usize = 0x830;
const NMI: i64 = 4;

struct Processor {
    /// A core has two regions, and the one is no part of the other.
    vmcs: [[u64; FIELDS]; 2],
    /// Where they lie; 0 where none was made current yet.
    regions: [u64; 2],
    /// The VMCS that is current.
    current: Option<usize>,
    msrs: [u64; MSRS],
    control: [u64; 16],
    debug: [u64; 16],
}

thread_local! {
    static PROCESSOR: UnsafeCell<Processor> = const {
        UnsafeCell::new(Processor {
            vmcs: [[0; FIELDS]; 2],
            regions: [0; 2],
            current: None,
            msrs: [0; MSRS],
            control: [0; 16],
            debug: [0; 16],
        })
    };
}

/// This thread's processor.
fn with<R>(work: impl FnOnce(&mut Processor) -> R) -> R {
    // SAFETY: the thread's own. The signal handler comes between instructions of the hypervisor's, which never runs
    // inside of another `with`.
    PROCESSOR.with(|processor| work(unsafe { &mut *processor.get() }))
}

const fn slot_of(encoding: u32) -> usize {
    (encoding as usize >> 13 & 3) << 9 | (encoding as usize >> 10 & 3) << 7 | (encoding as usize >> 1 & 0x7f)
}

/// Sets a VMCS field, as the processor does on a VM exit.
pub fn set_field(encoding: u32, value: u64) {
    with(|processor| processor.fields()[slot_of(encoding)] = value);
}

/// Reads one.
pub fn field(encoding: u32) -> u64 {
    with(|processor| processor.fields()[slot_of(encoding)])
}

/// Where each core is kicked: the word in its frame that the handler of its NMIs sets.
static KICKS: [AtomicPtr<AtomicU32>; CORES] = [const { AtomicPtr::new(null_mut()) }; CORES];

/// NMIs to this core arrive from here on. It stays where it is for good.
pub fn take_nmis(core: &'static mut Core) -> &'static mut Core {
    let word = (&raw mut core.frame).wrapping_byte_add(Frame::KICKED).cast();
    KICKS[core.index].store(word, Ordering::Release);
    core
}

/// An NMI to the core with this APIC id, which is its number.
pub fn nmi(core: usize) {
    // SAFETY: the word is in a core that is never freed, and is 32 bits that everybody writes as a whole.
    if let Some(word) = KICKS.get(core).and_then(|word| unsafe { word.load(Ordering::Acquire).as_ref() }) {
        word.store(1, Ordering::Release);
    }
}

/// Ends the run with a message, which is not kept back as a test's output is: nobody would be left to print it.
pub fn give_up(message: std::fmt::Arguments) -> ! {
    let _ = writeln!(std::io::stderr(), "hostile: {message}");
    std::process::abort();
}

/// Turns trapping on, for all threads.
pub fn start() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        // The decoder's tables are made at its first use, which must not be in a signal handler.
        let _ = Decoder::with_ip(64, &[0x90], 0, DecoderOptions::NONE).decode();
        for signal in [libc::SIGSEGV, libc::SIGILL] {
            // SAFETY: a handler with the signature that SA_SIGINFO asks for.
            unsafe {
                let mut action: libc::sigaction = core::mem::zeroed();
                action.sa_sigaction = trap as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
                assert_eq!(libc::sigaction(signal, &raw const action, core::ptr::null_mut()), 0);
            }
        }
    });
}

extern "C" fn trap(_: c_int, information: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes the interrupted thread's registers.
    let registers = unsafe { &mut (*context.cast::<ucontext_t>()).uc_mcontext.gregs };
    let rip = registers[libc::REG_RIP as usize] as u64;
    // SAFETY: code that has just been fetched; the longest instruction has 15 bytes, and the text goes on.
    let bytes = unsafe { std::slice::from_raw_parts(rip as *const u8, 15) };
    let instruction = Decoder::with_ip(64, bytes, rip, DecoderOptions::NONE).decode();
    let done = with(|processor| processor.execute(&instruction, registers));
    if !done {
        // A fault that is no privileged instruction is the end, so what may not be done in a signal handler may be tried.
        // SAFETY: the kernel passes the address of the fault.
        let address = unsafe { (*information).si_addr() };
        let trace = std::backtrace::Backtrace::force_capture();
        give_up(format_args!("{:?} at {rip:#x} has faulted at {address:?}\n{trace}", instruction.code()));
    }
    registers[libc::REG_RIP as usize] = instruction.next_ip() as i64;
}

type General = [i64; 23];

impl Processor {
    /// Those of the current VMCS.
    fn fields(&mut self) -> &mut [u64; FIELDS] {
        match self.current {
            Some(current) => &mut self.vmcs[current],
            None => give_up(format_args!("a field is used, and no VMCS is current")),
        }
    }

    /// Makes the VMCS in this region current (SDM 3C, "VMPTRLD").
    fn take_up(&mut self, region: u64) {
        let known = self.regions.iter().position(|&known| known == region);
        let Some(slot) = known.or_else(|| self.regions.iter().position(|&free| free == 0)) else {
            give_up(format_args!("a core has a third VMCS at {region:#x}"))
        };
        self.regions[slot] = region;
        self.current = Some(slot);
    }

    /// Leaves the VMCS in this region in memory (SDM 3C, "VMCLEAR").
    fn clear(&mut self, region: u64) {
        if self.current.is_some_and(|current| self.regions[current] == region) {
            self.current = None;
        }
    }

    /// Does one instruction. `false`: it is none that traps.
    fn execute(&mut self, instruction: &Instruction, general: &mut General) -> bool {
        const CARRY_AND_ZERO: i64 = 1 | 1 << 6;
        match instruction.code() {
            Code::Vmread_rm64_r64 => {
                let encoding = operand(instruction, 1, general) as u32;
                store(instruction, 0, general, self.fields()[slot_of(encoding)]);
            }
            Code::Vmwrite_r64_rm64 => {
                let encoding = operand(instruction, 0, general) as u32;
                self.fields()[slot_of(encoding)] = operand(instruction, 1, general);
            }
            Code::Vmclear_m64 => self.clear(operand(instruction, 0, general)),
            Code::Vmptrld_m64 => self.take_up(operand(instruction, 0, general)),
            Code::Vmxon_m64 => {}
            Code::Invept_r64_m128 | Code::Invvpid_r64_m128 => {}
            Code::Rdmsr => {
                let value = self.msrs[general[libc::REG_RCX as usize] as usize % MSRS];
                general[libc::REG_RAX as usize] = (value & 0xffff_ffff) as i64;
                general[libc::REG_RDX as usize] = (value >> 32) as i64;
            }
            Code::Wrmsr => {
                let (low, high) = (general[libc::REG_RAX as usize], general[libc::REG_RDX as usize]);
                let number = general[libc::REG_RCX as usize] as usize;
                if number == INTERRUPT_COMMAND && low >> 8 & 7 == NMI {
                    nmi(high as usize);
                }
                // What is pending or in service stays empty.
                self.msrs[number % MSRS] = (low as u64 & 0xffff_ffff) | (high as u64) << 32;
            }
            Code::Mov_r64_cr => {
                let value = self.control[number(instruction.op1_register(), Register::CR0)];
                store(instruction, 0, general, value);
            }
            Code::Mov_cr_r64 => {
                self.control[number(instruction.op0_register(), Register::CR0)] =
                    operand(instruction, 1, general);
            }
            Code::Mov_r64_dr => {
                let value = self.debug[number(instruction.op1_register(), Register::DR0)];
                store(instruction, 0, general, value);
            }
            Code::Mov_dr_r64 => {
                self.debug[number(instruction.op0_register(), Register::DR0)] =
                    operand(instruction, 1, general);
            }
            Code::In_AL_DX | Code::In_AL_imm8 => general[libc::REG_RAX as usize] |= 0xff,
            Code::Lidt_m1664
            | Code::Cli
            | Code::Sti
            | Code::Wbinvd
            | Code::Int_imm8
            | Code::Out_DX_AL
            | Code::Out_DX_EAX
            | Code::Out_imm8_AL => {}
            Code::Hlt => {
                // Nothing here halts but a core at the end of a run, and no run of these ends so.
                give_up(format_args!("the hypervisor stops\n{}", std::backtrace::Backtrace::force_capture()));
            }
            _ => return false,
        }
        general[libc::REG_EFL as usize] &= !CARRY_AND_ZERO;
        true
    }
}

fn number(register: Register, first: Register) -> usize {
    (register as usize - first as usize) & 15
}

/// Where a general register lies in the signal's context.
fn slot(register: Register) -> usize {
    let place = match register {
        Register::RAX => libc::REG_RAX,
        Register::RCX => libc::REG_RCX,
        Register::RDX => libc::REG_RDX,
        Register::RBX => libc::REG_RBX,
        Register::RSP => libc::REG_RSP,
        Register::RBP => libc::REG_RBP,
        Register::RSI => libc::REG_RSI,
        Register::RDI => libc::REG_RDI,
        Register::R8 => libc::REG_R8,
        Register::R9 => libc::REG_R9,
        Register::R10 => libc::REG_R10,
        Register::R11 => libc::REG_R11,
        Register::R12 => libc::REG_R12,
        Register::R13 => libc::REG_R13,
        Register::R14 => libc::REG_R14,
        Register::R15 => libc::REG_R15,
        _ => libc::REG_RIP,
    };
    place as usize
}

/// The address of a memory operand.
fn address(instruction: &Instruction, general: &General) -> u64 {
    let value = |register: Register| match register {
        Register::None => 0,
        Register::RIP | Register::EIP => 0,
        other => general[slot(other)] as u64,
    };
    let scaled = value(instruction.memory_index()).wrapping_mul(instruction.memory_index_scale().into());
    value(instruction.memory_base()).wrapping_add(scaled).wrapping_add(instruction.memory_displacement64())
}

fn operand(instruction: &Instruction, which: u32, general: &General) -> u64 {
    match instruction.op_kind(which) {
        OpKind::Register => general[slot(instruction.op_register(which))] as u64,
        // SAFETY: an operand that the hypervisor's own code names.
        _ => unsafe { (address(instruction, general) as *const u64).read_unaligned() },
    }
}

fn store(instruction: &Instruction, which: u32, general: &mut General, value: u64) {
    match instruction.op_kind(which) {
        OpKind::Register => general[slot(instruction.op_register(which))] = value as i64,
        // SAFETY: as for `operand`.
        _ => unsafe { (address(instruction, general) as *mut u64).write_unaligned(value) },
    }
}
