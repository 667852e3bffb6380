//! Writes to CR0 and CR4 that touch what the hypervisor keeps: NE, CD and NW of CR0; VMXE, MCE and what a guest may not
//! have of CR4. Reads never exit; they see the shadow.
//!
//! What the hypervisor keeps never changes. So a write that is allowed only puts those bits into the shadow, and the
//! guest does the instruction again: it no longer differs there, and the processor itself carries out and checks the rest.

use vmx::exit::ControlRegister;
use vmx::field::{self, Field};
use vmx::injection::Injection;

use crate::bits;
use crate::core::Core;
use crate::core::guest_state::{CR0_OWNED, CR4_ALLOWED, CR4_MCE};

/// PE, MP, EM, TS, ET, NE, WP, AM, NW, CD, PG.
const CR0_DEFINED: u64 = bits([0, 1, 2, 3, 4, 5, 16, 18, 29, 30, 31]);
const CR0_NW: u64 = 1 << 29;
const CR0_CD: u64 = 1 << 30;

pub(super) fn handle(core: &mut Core, access: ControlRegister) {
    let allowed = match access {
        ControlRegister::Write(0, register) => {
            let value = core.register(register);
            let cache_bits_agree = value & CR0_CD != 0 || value & CR0_NW == 0;
            let allowed = value & !CR0_DEFINED == 0 && cache_bits_agree;
            if allowed {
                keep(core, field::CR0_READ_SHADOW, CR0_OWNED, value);
            }
            allowed
        }
        ControlRegister::Write(4, register) => {
            let value = core.register(register);
            let allowed = value & !(CR4_ALLOWED | CR4_MCE) == 0;
            if allowed {
                keep(core, field::CR4_READ_SHADOW, !CR4_ALLOWED, value);
            }
            allowed
        }
        // CLTS and LMSW touch no bit that is kept; other registers do not exit.
        _ => false,
    };
    if !allowed {
        core.inject(Injection::GENERAL_PROTECTION);
    }
}

fn keep(core: &mut Core, shadow: Field<u64>, owned: u64, value: u64) {
    let now = core.vmcs.get(shadow);
    core.vmcs.write(shadow, now & !owned | value & owned);
}
