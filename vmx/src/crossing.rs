//! The one way into a guest and back, and the NMI that can call it off.
//!
//! [`enter`] takes a [`Frame`], which holds the guest's registers while it is out:
//!
//! 1. The host's preserved registers go on the host's stack, and its stack pointer into the frame.
//! 2. XMM0 to XMM15 are loaded from the frame, then RSP is pointed into it and the general registers are popped.
//!    RSP now is at the frame's end, which is where VM exits will put it: HOST_RSP never changes.
//! 3. If nobody has kicked this core, VMLAUNCH or VMRESUME.
//! 4. After an exit the registers are pushed back, the host's stack is found in the frame, and `enter` *returns*.
//!
//! **Kicks.** Another core that wants this one's attention sends an NMI. In the guest it causes an exit. In the host it
//! runs [`nmi_handler`], which leaves a mark in the frame; but between the look at the mark (3) and the entry the
//! mark would come too late. So where the handler finds that it interrupted just that stretch of code it moves RIP to
//! the way out, and the entry never happens. [`wait_for_kick`] halts under the same rule. No kick is lost, no flag
//! is shared between cores, and a look at a word of its own is all that an entry pays.
//!
//! Only the lower halves of the vector registers are kept here: the host is compiled for SSE, whose encodings leave the
//! upper halves alone, and computes with no floating point, so that MXCSR stays as the guest left it.

use core::arch::naked_asm;
use core::mem::offset_of;

/// The guest's general registers, in the order in which they are popped.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
#[allow(missing_docs, reason = "the registers are named as in the SDM")]
pub struct Registers {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rax: u64,
}

impl Registers {
    /// The register with this number in instruction encodings; RSP (4) is in the VMCS and reads as `None`.
    pub fn by_number(&self, number: u8) -> Option<u64> {
        Some(match number & 15 {
            0 => self.rax,
            1 => self.rcx,
            2 => self.rdx,
            3 => self.rbx,
            4 => return None,
            5 => self.rbp,
            6 => self.rsi,
            7 => self.rdi,
            8 => self.r8,
            9 => self.r9,
            10 => self.r10,
            11 => self.r11,
            12 => self.r12,
            13 => self.r13,
            14 => self.r14,
            _ => self.r15,
        })
    }
}

impl Registers {
    /// Where the register with this number is kept; RSP (4) is in the VMCS.
    pub fn place(&mut self, number: u8) -> Option<&mut u64> {
        Some(match number & 15 {
            0 => &mut self.rax,
            1 => &mut self.rcx,
            2 => &mut self.rdx,
            3 => &mut self.rbx,
            4 => return None,
            5 => &mut self.rbp,
            6 => &mut self.rsi,
            7 => &mut self.rdi,
            8 => &mut self.r8,
            9 => &mut self.r9,
            10 => &mut self.r10,
            11 => &mut self.r11,
            12 => &mut self.r12,
            13 => &mut self.r13,
            14 => &mut self.r14,
            _ => &mut self.r15,
        })
    }
}

/// One core's crossing. GS base points here whenever the host runs.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Frame {
    /// XMM0 to XMM15 of the guest.
    pub xmm: [u128; 16],
    /// The guest's general registers, but RSP.
    pub registers: Registers,
    /// HOST_RSP points here: right behind what is pushed.
    host_stack: u64,
    kicked: u32,
    launched: u32,
}

const _: () = assert!(offset_of!(Frame, host_stack) == offset_of!(Frame, registers) + size_of::<Registers>());
const _: () = assert!(offset_of!(Frame, host_stack) % 8 == 0);

/// What [`enter`] comes back with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Return {
    /// The guest ran, and an exit brought the core back.
    Exit = 0,
    /// The guest did not run: this core was kicked.
    Kicked = 1,
    /// VMLAUNCH or VMRESUME failed; the VM-instruction error says why.
    Failed = 2,
}

impl Frame {
    /// A frame of zeroes, whose next entry is a VMLAUNCH.
    pub const fn new() -> Self {
        let registers = Registers {
            r15: 0,
            r14: 0,
            r13: 0,
            r12: 0,
            r11: 0,
            r10: 0,
            r9: 0,
            r8: 0,
            rdi: 0,
            rsi: 0,
            rbp: 0,
            rbx: 0,
            rdx: 0,
            rcx: 0,
            rax: 0,
        };
        Self { xmm: [0; 16], registers, host_stack: 0, kicked: 0, launched: 0 }
    }

    /// Forgets the guest that was here; the VMCS was cleared, so the next entry is a VMLAUNCH.
    pub fn reset(&mut self) {
        self.xmm = [0; 16];
        self.registers = Registers::default();
        self.launched = 0;
    }

    /// The VMCS was cleared, and keeps what is in it: the next entry is a VMLAUNCH.
    pub fn relaunch(&mut self) {
        self.launched = 0;
    }

    /// Where in it the word is that says, unless it is 0, that this core was kicked.
    pub const KICKED: usize = offset_of!(Frame, kicked);

    /// What HOST_RSP has to be for this frame.
    pub fn host_rsp(&self) -> u64 {
        &raw const self.host_stack as u64
    }

    /// Whether this core was kicked since the last note of it: who is long about something may want to stop.
    pub fn is_kicked(&self) -> bool {
        // SAFETY: a field of our own, which only this core's NMI handler changes behind the compiler's back.
        unsafe { (&raw const self.kicked).read_volatile() != 0 }
    }

    /// Takes note of the kick, before looking for what it was about.
    pub fn clear_kick(&mut self) {
        // SAFETY: a field of our own, which only this core's NMI handler changes behind the compiler's back.
        unsafe { (&raw mut self.kicked).write_volatile(0) };
    }
}

impl Default for Frame {
    fn default() -> Self {
        Self::new()
    }
}

/// What HOST_RIP has to be.
pub fn exit_address() -> u64 {
    unsafe extern "C" {
        static vmx_exit: u8;
    }
    &raw const vmx_exit as u64
}

/// Lets the guest run until the next exit, kick or failure.
///
/// # Safety
/// This core's VMCS is current and filled, with `frame`'s host RSP and [`exit_address`]; `frame` stays where it is, GS
/// base points to it, and interrupts are off.
#[unsafe(naked)]
pub unsafe extern "sysv64" fn enter(frame: *mut Frame) -> Return {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rdi + {host_stack}], rsp",
        "movaps xmm0, [rdi]",
        "movaps xmm1, [rdi + 0x10]",
        "movaps xmm2, [rdi + 0x20]",
        "movaps xmm3, [rdi + 0x30]",
        "movaps xmm4, [rdi + 0x40]",
        "movaps xmm5, [rdi + 0x50]",
        "movaps xmm6, [rdi + 0x60]",
        "movaps xmm7, [rdi + 0x70]",
        "movaps xmm8, [rdi + 0x80]",
        "movaps xmm9, [rdi + 0x90]",
        "movaps xmm10, [rdi + 0xa0]",
        "movaps xmm11, [rdi + 0xb0]",
        "movaps xmm12, [rdi + 0xc0]",
        "movaps xmm13, [rdi + 0xd0]",
        "movaps xmm14, [rdi + 0xe0]",
        "movaps xmm15, [rdi + 0xf0]",
        "lea rsp, [rdi + {registers}]",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rdi",
        "pop rsi",
        "pop rbp",
        "pop rbx",
        "pop rdx",
        "pop rcx",
        "pop rax",
        // The stretch that an NMI calls off: from here to the entry itself.
        ".global vmx_entry_window",
        "vmx_entry_window:",
        "cmp dword ptr [rsp + {kicked}], 0",
        "jne vmx_entry_cancelled",
        "cmp dword ptr [rsp + {launched}], 0",
        "je 2f",
        "vmresume",
        "jmp 3f",
        "2:",
        "vmlaunch",
        "3:",
        // Not reached where the guest ran. The frame still holds its registers.
        ".global vmx_entry_window_end",
        "vmx_entry_window_end:",
        "mov eax, 2",
        "mov rsp, [rsp]",
        "jmp 4f",
        ".global vmx_entry_cancelled",
        "vmx_entry_cancelled:",
        "mov eax, 1",
        "mov rsp, [rsp]",
        "jmp 4f",
        ".global vmx_exit",
        "vmx_exit:",
        "mov dword ptr [rsp + {launched}], 1",
        "push rax",
        "push rcx",
        "push rdx",
        "push rbx",
        "push rbp",
        "push rsi",
        "push rdi",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "movaps [rsp - {registers} + 0x00], xmm0",
        "movaps [rsp - {registers} + 0x10], xmm1",
        "movaps [rsp - {registers} + 0x20], xmm2",
        "movaps [rsp - {registers} + 0x30], xmm3",
        "movaps [rsp - {registers} + 0x40], xmm4",
        "movaps [rsp - {registers} + 0x50], xmm5",
        "movaps [rsp - {registers} + 0x60], xmm6",
        "movaps [rsp - {registers} + 0x70], xmm7",
        "movaps [rsp - {registers} + 0x80], xmm8",
        "movaps [rsp - {registers} + 0x90], xmm9",
        "movaps [rsp - {registers} + 0xa0], xmm10",
        "movaps [rsp - {registers} + 0xb0], xmm11",
        "movaps [rsp - {registers} + 0xc0], xmm12",
        "movaps [rsp - {registers} + 0xd0], xmm13",
        "movaps [rsp - {registers} + 0xe0], xmm14",
        "movaps [rsp - {registers} + 0xf0], xmm15",
        "mov rsp, [rsp + {host_stack} - {registers}]",
        "xor eax, eax",
        "4:",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
        host_stack = const offset_of!(Frame, host_stack),
        registers = const offset_of!(Frame, registers),
        kicked = const Frame::KICKED - offset_of!(Frame, host_stack),
        launched = const offset_of!(Frame, launched) - offset_of!(Frame, host_stack),
    )
}

/// Halts until this core is kicked; returns at once where it was already.
///
/// # Safety
/// GS base points to this core's [`Frame`], and vector 2 leads to [`nmi_handler`].
#[unsafe(naked)]
pub unsafe extern "sysv64" fn wait_for_kick() {
    naked_asm!(
        ".global vmx_wait_window",
        "vmx_wait_window:",
        "cmp dword ptr gs:[{kicked}], 0",
        "jne 2f",
        "hlt",
        ".global vmx_wait_window_end",
        "vmx_wait_window_end:",
        "jmp vmx_wait_window",
        "2:",
        "ret",
        kicked = const Frame::KICKED,
    )
}

/// Where vector 2 leads: marks the kick, and calls off an entry or a halt that is about to happen.
///
/// # Safety
/// Only as an interrupt gate's target, on an IST stack of its own, with GS base at this core's [`Frame`].
#[unsafe(naked)]
pub unsafe extern "sysv64" fn nmi_handler() {
    naked_asm!(
        "push rax",
        "push rdx",
        "mov dword ptr gs:[{kicked}], 1",
        "mov rax, [rsp + 16]",
        "lea rdx, [rip + vmx_entry_window]",
        "cmp rax, rdx",
        "jb 2f",
        "lea rdx, [rip + vmx_entry_window_end]",
        "cmp rax, rdx",
        "jae 2f",
        "lea rdx, [rip + vmx_entry_cancelled]",
        "mov [rsp + 16], rdx",
        "2:",
        "lea rdx, [rip + vmx_wait_window]",
        "cmp rax, rdx",
        "jb 3f",
        "lea rdx, [rip + vmx_wait_window_end]",
        "cmp rax, rdx",
        "jae 3f",
        "lea rdx, [rip + vmx_wait_window]",
        "mov [rsp + 16], rdx",
        "3:",
        "pop rdx",
        "pop rax",
        "iretq",
        kicked = const Frame::KICKED,
    )
}

/// Ends the blocking of NMIs that an exit for an NMI leaves behind (SDM 3C, "Updating Non-Register State"), and marks the
/// kick: takes the same way as an NMI in the host.
pub fn take_nmi() {
    // SAFETY: vector 2 leads to `nmi_handler`, whose IRETQ unblocks NMIs.
    unsafe { core::arch::asm!("int 2") };
}
