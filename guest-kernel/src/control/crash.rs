//! A crash, told in a sentence and in registers.

use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, string::ToString};

use abi::control::hypercall::CrashRecord;

/// Why the hypervisor stopped the domain, in one sentence (SDM 3D, "VMX Basic Exit Reasons"; 3C, "Exit Qualification").
pub fn cause(record: &CrashRecord) -> String {
    let qualification = record.qualification;
    let what = match record.exit_reason & 0xffff {
        0 => exception(record.interruption),
        2 => "triple fault: a fault could not be delivered, twice over".to_string(),
        3 => "an INIT signal reached its core".to_string(),
        9 => "it tried to switch tasks".to_string(),
        10 => "CPUID could not be answered".to_string(),
        12 => "HLT with no way to wake up".to_string(),
        13 => "it executed INVD, which no guest may".to_string(),
        18 => "a hypercall that could not be carried out".to_string(),
        19..=27 | 50 | 53 => "it executed a VMX instruction, which no guest may".to_string(),
        28 => {
            format!("it changed a control register in a way no guest may (qualification {qualification:#x})")
        }
        29 => "it accessed a debug register in a way no guest may".to_string(),
        30 => port(qualification),
        31 => format!("it read MSR {:#x}, which no guest may", record.registers[1] as u32),
        32 => format!("it wrote MSR {:#x}, which no guest may", record.registers[1] as u32),
        33 | 34 => "its state at entry was invalid".to_string(),
        41 => "a machine check at entry".to_string(),
        48 => ept_violation(record),
        49 => format!("EPT misconfiguration at {:#x}: a fault of the hypervisor's", record.guest_physical),
        54 => "it executed WBINVD, which no guest may".to_string(),
        55 => "it executed XSETBV with a value no guest may set".to_string(),
        other => format!("exit reason {other}"),
    };
    format!("{what}, at RIP {:#x}", record.rip)
}

/// Registers and exit fields by name, the telling ones first.
pub fn registers(record: &CrashRecord) -> Vec<(String, u64)> {
    const NAMES: [&str; 16] = [
        "rax", "rcx", "rdx", "rbx", "", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
        "r15",
    ];
    let fields = [
        ("rip", record.rip),
        ("rsp", record.rsp),
        ("rflags", record.rflags),
        ("cr0", record.cr0),
        ("cr3", record.cr3),
        ("cr4", record.cr4),
    ];
    let exit = [
        ("exit_reason", record.exit_reason.into()),
        ("qualification", record.qualification),
        ("interruption", record.interruption.into()),
        ("guest_physical", record.guest_physical),
    ];
    // RSP is a field of its own and has a zero in the array.
    let general = NAMES.into_iter().zip(record.registers).filter(|(name, _)| !name.is_empty());
    fields.into_iter().chain(general).chain(exit).map(|(name, value)| (name.to_string(), value)).collect()
}

fn exception(interruption: u32) -> String {
    const NAMES: [&str; 22] = [
        "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "", "#TS", "#NP", "#SS", "#GP", "#PF",
        "", "#MF", "#AC", "#MC", "#XM", "#VE", "#CP",
    ];
    let vector = (interruption & 0xff) as usize;
    match NAMES.get(vector) {
        Some(name) if !name.is_empty() => format!("exception {name} that the hypervisor does not pass on"),
        _ => format!("exception {vector} that the hypervisor does not pass on"),
    }
}

/// I/O instruction: size less one in bits 0 to 2, direction in bit 3, port in bits 16 to 31.
fn port(qualification: u64) -> String {
    let verb = if qualification & 8 != 0 { "read" } else { "wrote" };
    format!("it {verb} port {:#x}, which is not its own", qualification >> 16 & 0xffff)
}

/// Read, write, fetch in bits 0 to 2.
fn ept_violation(record: &CrashRecord) -> String {
    let verb = match record.qualification & 7 {
        bits if bits & 4 != 0 => "fetched an instruction from",
        bits if bits & 2 != 0 => "wrote to",
        _ => "read from",
    };
    format!("it {verb} guest-physical {:#x}, where it has no such right", record.guest_physical)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences() {
        let told = |exit_reason, qualification| {
            cause(&CrashRecord {
                exit_reason,
                qualification,
                guest_physical: 0xdead_0000,
                rip: 0x1234,
                ..CrashRecord::default()
            })
        };
        assert_eq!(told(2, 0), "triple fault: a fault could not be delivered, twice over, at RIP 0x1234");
        assert_eq!(
            told(48, 2),
            "it wrote to guest-physical 0xdead0000, where it has no such right, at RIP 0x1234"
        );
        assert_eq!(told(30, 0x60 << 16 | 8), "it read port 0x60, which is not its own, at RIP 0x1234");
        for reason in 0..=u32::from(u16::MAX) {
            assert!(told(reason, u64::MAX).ends_with("at RIP 0x1234"));
        }
        let fault = CrashRecord { interruption: 0x8000_0b0d, ..CrashRecord::default() };
        assert!(cause(&fault).starts_with("exception #GP"));
    }

    #[test]
    fn every_register_has_its_name() {
        let mut record = CrashRecord { rsp: 7, ..CrashRecord::default() };
        record.registers = core::array::from_fn(|number| number as u64 + 100);
        let registers = registers(&record);
        let value = |name: &str| registers.iter().find(|(known, _)| known == name).map(|(_, value)| *value);
        assert_eq!(
            (value("rax"), value("rsp"), value("rbp"), value("r15")),
            (Some(100), Some(7), Some(105), Some(115))
        );
        assert_eq!(registers.len(), 6 + 15 + 4);
    }
}
