//! Instructions on devices' registers, as the hypervisor carries them out, against the processor that runs this test.

use std::arch::naked_asm;
use std::mem::offset_of;

use hypervisor::devices::decode::arithmetic::flag;
use hypervisor::devices::decode::{Access, Operation, decode};
use proptest::prelude::*;

/// What an instruction finds and leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
struct State {
    registers: [u64; 16],
    flags: u64,
}

/// Loads all registers but RSP, calls the code, stores them again.
///
/// # Safety
/// The code ends with RET, keeps RSP, and writes only memory that nobody else uses; the flags are arithmetic ones and the
/// direction flag.
#[unsafe(naked)]
unsafe extern "sysv64" fn run(state: *mut State, code: *const u8) {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        // Beside the stack's pointer: the state, and the code above it.
        "push rsi",
        "push rdi",
        "push [rdi + {flags}]",
        "popfq",
        "mov rax, [rdi]",
        "mov rcx, [rdi + 8]",
        "mov rdx, [rdi + 16]",
        "mov rbx, [rdi + 24]",
        "mov rbp, [rdi + 40]",
        "mov rsi, [rdi + 48]",
        "mov r8, [rdi + 64]",
        "mov r9, [rdi + 72]",
        "mov r10, [rdi + 80]",
        "mov r11, [rdi + 88]",
        "mov r12, [rdi + 96]",
        "mov r13, [rdi + 104]",
        "mov r14, [rdi + 112]",
        "mov r15, [rdi + 120]",
        "mov rdi, [rdi + 56]",
        "call [rsp + 8]",
        "xchg rdi, [rsp]",
        "mov [rdi], rax",
        "mov [rdi + 8], rcx",
        "mov [rdi + 16], rdx",
        "mov [rdi + 24], rbx",
        "mov [rdi + 40], rbp",
        "mov [rdi + 48], rsi",
        "mov [rdi + 64], r8",
        "mov [rdi + 72], r9",
        "mov [rdi + 80], r10",
        "mov [rdi + 88], r11",
        "mov [rdi + 96], r12",
        "mov [rdi + 104], r13",
        "mov [rdi + 112], r14",
        "mov [rdi + 120], r15",
        "pop [rdi + 56]",
        "pushfq",
        "pop [rdi + {flags}]",
        "cld",
        "pop rsi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
        flags = const offset_of!(State, flags),
    )
}

const RDI: usize = 7;
const RSI: usize = 6;
const RCX: usize = 1;
const RET: u8 = 0xc3;
const MODIFIED: u64 = flag::ARITHMETIC | flag::DIRECTION;

/// A page that code can be put in.
struct Code(*mut u8);

impl Code {
    const BYTES: usize = 4096;

    fn new() -> Self {
        // SAFETY: a new mapping, wherever there is room.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                Self::BYTES,
                libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert_ne!(page, libc::MAP_FAILED);
        Self(page.cast())
    }

    /// # Safety
    /// The instruction uses memory at RDI, and at RSI if it is a MOVS or a LODS, and keeps RSP.
    unsafe fn run(&self, instruction: &[u8], state: &mut State) {
        // SAFETY: the page has room; by the caller for what the instruction does.
        unsafe {
            std::ptr::copy_nonoverlapping(instruction.as_ptr(), self.0, instruction.len());
            self.0.add(instruction.len()).write(RET);
            run(state, self.0);
        }
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        // SAFETY: the mapping is this one's own.
        unsafe { libc::munmap(self.0.cast(), Self::BYTES) };
    }
}

/// An instruction whose memory operand is [RDI]: its opcode, and what follows the ModRM byte's register field.
#[derive(Clone, Copy, Debug)]
struct Form {
    opcode: &'static [u8],
    /// The ModRM byte's register field is a part of the opcode, or a register.
    extension: Option<u8>,
    /// Bytes of the number at the end: none, one, or as many as the operand has, at most 4.
    immediate: Immediate,
    /// Whether the operand is a byte.
    is_byte: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Immediate {
    None,
    Byte,
    Full,
}

fn forms() -> Vec<Form> {
    let mut forms = Vec::new();
    let mut add = |opcode: &'static [u8], extension, immediate, is_byte| {
        forms.push(Form { opcode, extension, immediate, is_byte });
    };
    // ADD, OR, ADC, SBB, AND, SUB, XOR, CMP: memory with register, register with memory, memory with number.
    const GROUP_1: [[[u8; 1]; 4]; 8] = {
        let mut all = [[[0; 1]; 4]; 8];
        let mut at = 0;
        while at < 8 {
            let first = at as u8 * 8;
            all[at] = [[first], [first + 1], [first + 2], [first + 3]];
            at += 1;
        }
        all
    };
    for (extension, opcodes) in (0..).zip(&GROUP_1) {
        for (opcode, is_byte) in opcodes.iter().zip([true, false, true, false]) {
            add(opcode, None, Immediate::None, is_byte);
        }
        add(&[0x80], Some(extension), Immediate::Byte, true);
        add(&[0x81], Some(extension), Immediate::Full, false);
        add(&[0x83], Some(extension), Immediate::Byte, false);
    }
    // MOV.
    add(&[0x88], None, Immediate::None, true);
    add(&[0x89], None, Immediate::None, false);
    add(&[0x8a], None, Immediate::None, true);
    add(&[0x8b], None, Immediate::None, false);
    add(&[0xc6], Some(0), Immediate::Byte, true);
    add(&[0xc7], Some(0), Immediate::Full, false);
    // MOVZX, MOVSX of a byte and of a word, MOVSXD, MOVNTI.
    for opcode in [&[0x0f, 0xb6], &[0x0f, 0xb7], &[0x0f, 0xbe], &[0x0f, 0xbf]] {
        add(opcode, None, Immediate::None, false);
    }
    add(&[0x63], None, Immediate::None, false);
    // TEST, NOT, NEG, INC, DEC, XCHG, XADD, CMPXCHG.
    add(&[0x84], None, Immediate::None, true);
    add(&[0x85], None, Immediate::None, false);
    add(&[0xf6], Some(0), Immediate::Byte, true);
    add(&[0xf7], Some(0), Immediate::Full, false);
    for extension in [2, 3] {
        add(&[0xf6], Some(extension), Immediate::None, true);
        add(&[0xf7], Some(extension), Immediate::None, false);
    }
    for extension in [0, 1] {
        add(&[0xfe], Some(extension), Immediate::None, true);
        add(&[0xff], Some(extension), Immediate::None, false);
    }
    add(&[0x86], None, Immediate::None, true);
    add(&[0x87], None, Immediate::None, false);
    add(&[0x0f, 0xc0], None, Immediate::None, true);
    add(&[0x0f, 0xc1], None, Immediate::None, false);
    add(&[0x0f, 0xb0], None, Immediate::None, true);
    add(&[0x0f, 0xb1], None, Immediate::None, false);
    // BT, BTS, BTR, BTC by number.
    for extension in 4..8 {
        add(&[0x0f, 0xba], Some(extension), Immediate::Byte, false);
    }
    forms
}

/// BT, BTS, BTR, BTC by register, where the index reaches no further than the operand.
const BY_REGISTER: [[u8; 2]; 4] = [[0x0f, 0xa3], [0x0f, 0xab], [0x0f, 0xb3], [0x0f, 0xbb]];
/// MOVS, STOS, LODS.
const STRINGS: [u8; 6] = [0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xad];

#[derive(Clone, Copy, Debug)]
struct Choice {
    /// Operand size: 0 is 32 bits, 1 is 16, 2 is 64.
    size: u8,
    /// Of byte operands: whether AH is what SPL would be.
    rex: bool,
    register: u8,
    number: u32,
}

impl Form {
    fn bytes(self, choice: Choice) -> Vec<u8> {
        let mut bytes = Vec::new();
        if choice.size == 1 {
            bytes.push(0x66);
        }
        // RDI is the memory operand's; RSP stays where it is.
        let register = if matches!(choice.register & 15, 4 | 7) { 3 } else { choice.register & 15 };
        let field = self.extension.unwrap_or(register & 7);
        let high = if self.extension.is_none() { register >> 3 } else { 0 };
        let wide = choice.size == 2;
        if wide || choice.rex || high != 0 {
            bytes.push(0x40 | u8::from(wide) << 3 | high << 2);
        } else if self.is_byte && self.extension.is_none() {
            // Without a prefix 4 to 7 are AH to BH.
            return self.legacy(bytes, choice.register & 7, choice.number);
        }
        self.rest(bytes, field, choice)
    }

    fn legacy(self, mut bytes: Vec<u8>, field: u8, number: u32) -> Vec<u8> {
        bytes.extend(self.opcode);
        bytes.push(field << 3 | RDI as u8);
        if self.immediate != Immediate::None {
            bytes.push(number as u8);
        }
        bytes
    }

    fn rest(self, mut bytes: Vec<u8>, field: u8, choice: Choice) -> Vec<u8> {
        bytes.extend(self.opcode);
        bytes.push(field << 3 | RDI as u8);
        let count = match self.immediate {
            Immediate::None => 0,
            Immediate::Byte => 1,
            Immediate::Full if choice.size == 1 => 2,
            Immediate::Full => 4,
        };
        bytes.extend(&choice.number.to_le_bytes()[..count]);
        bytes
    }
}

/// What the flags may differ in: what the SDM calls undefined.
fn undefined(operation: Operation) -> u64 {
    use hypervisor::devices::decode::arithmetic::Arithmetic::{And, Or, Test, Xor};
    match operation {
        Operation::Modify(And | Or | Test | Xor, _) | Operation::Compute(And | Or | Test | Xor, _) => {
            flag::ADJUST
        }
        Operation::Bit(..) => flag::ARITHMETIC & !flag::CARRY & !flag::ZERO,
        _ => 0,
    }
}

/// Runs an instruction on the processor and in the model.
fn compare(code: &Code, instruction: &[u8], mut state: State, memory: u64) -> Result<(), TestCaseError> {
    let mut device = [memory, !memory];
    let mut other = memory.rotate_left(20);
    state.registers[RDI] = &raw mut device as u64;
    let access: Access =
        decode(instruction, 64).map_err(|error| TestCaseError::fail(format!("{error:?}")))?;
    prop_assert_eq!(usize::from(access.length), instruction.len());
    let is_string = matches!(access.operation, Operation::Element(_));
    if is_string {
        state.registers[RSI] = &raw mut other as u64;
    }
    state.flags = state.flags & MODIFIED & if is_string { u64::MAX } else { !flag::DIRECTION } | 2;
    let mut model = state;
    let source = if is_string { other } else { memory };
    let mask = u64::MAX >> (64 - 8 * u32::from(access.bytes));
    let written = access.apply(&mut model.registers, &mut model.flags, source & mask);
    let expected = written.map_or(memory, |value| memory & !mask | value);
    // SAFETY: the operands are this function's own.
    unsafe { code.run(instruction, &mut state) };
    // SAFETY: this function's own; the processor has written it behind the compiler's back.
    let device = unsafe { (&raw const device[0]).read_volatile() };
    prop_assert_eq!(device, expected, "{:?}", access);
    prop_assert_eq!(state.registers, model.registers, "{:?}", access);
    let compared = MODIFIED & !undefined(access.operation);
    prop_assert_eq!(state.flags & compared, model.flags & compared, "{:?}", access);
    Ok(())
}

/// Values at whose edges something changes, and others.
fn value() -> impl Strategy<Value = u64> {
    let edges = prop::sample::select(vec![
        0,
        1,
        0x7f,
        0x80,
        0xff,
        0x7fff,
        0x8000,
        0xffff,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
        i64::MAX as u64,
        1 << 63,
        u64::MAX,
    ]);
    prop_oneof![edges, any::<u64>()]
}

fn state() -> impl Strategy<Value = State> {
    (prop::array::uniform16(value()), any::<u64>()).prop_map(|(registers, flags)| State { registers, flags })
}

fn choice() -> impl Strategy<Value = Choice> {
    (0u8..3, any::<bool>(), any::<u8>(), value()).prop_map(|(size, rex, register, number)| Choice {
        size,
        rex,
        register,
        number: number as u32,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Every form, in every round with other operands.
    #[test]
    fn as_the_processor_does(state in state(), memory in value(), choice in choice(), equal: bool) {
        let code = Code::new();
        for form in forms() {
            let mut state = state;
            if equal {
                // So that CMPXCHG finds what it wants.
                state.registers[0] = memory;
            }
            compare(&code, &form.bytes(choice), state, memory)?;
        }
        // MOVNTI has no form of 16 bits, and none of a byte.
        let movnti = Form { opcode: &[0x0f, 0xc3], extension: None, immediate: Immediate::None, is_byte: false };
        compare(&code, &movnti.bytes(Choice { size: choice.size & 2, ..choice }), state, memory)?;
    }

    #[test]
    fn bits_by_register(state in state(), memory in value(), choice in choice(), index in 0u64..16) {
        let code = Code::new();
        for opcode in &BY_REGISTER {
            let mut state = state;
            state.registers.iter_mut().for_each(|register| *register = index);
            let form = Form { opcode, extension: None, immediate: Immediate::None, is_byte: false };
            compare(&code, &form.bytes(choice), state, memory)?;
        }
    }

    #[test]
    fn strings(state in state(), memory in value(), size in 0u8..3, repeats: bool) {
        let code = Code::new();
        for opcode in STRINGS {
            let mut instruction = Vec::new();
            let mut state = state;
            if repeats {
                instruction.push(0xf3);
                state.registers[RCX] = 1;
            }
            match size {
                1 => instruction.push(0x66),
                2 => instruction.push(0x48),
                _ => {}
            }
            instruction.push(opcode);
            compare(&code, &instruction, state, memory)?;
        }
    }
}
