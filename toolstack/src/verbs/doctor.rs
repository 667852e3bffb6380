//! `doctor`: what this host can run, what is missing, and the remedy.

use serde_json::json;

use crate::{host, machine::Kind, output};

const KINDS: [Kind; 4] = [Kind::Kvm, Kind::Bochs, Kind::Nested, Kind::Tcg];

/// Prints the examination. That something is missing is a finding, not a failure.
pub fn run(as_json: bool) {
    let findings = host::findings();
    let best = host::best_machine();
    if as_json {
        let machines: Vec<_> = KINDS
            .iter()
            .map(|&kind| {
                let lacking: Vec<_> = host::lacking(kind, &findings).iter().map(|finding| finding.name).collect();
                json!({ "machine": kind.name(), "usable": lacking.is_empty(), "lacking": lacking, "auto": kind == best })
            })
            .collect();
        output::say_json(
            &json!({ "processor": host::processor(), "machines": machines, "findings": findings }),
        );
        return;
    }
    output::say(format!("processor: {}\n", host::processor()));
    output::say("machines");
    for kind in KINDS {
        let lacking: Vec<_> = host::lacking(kind, &findings).iter().map(|finding| finding.name).collect();
        let verdict =
            if lacking.is_empty() { "usable".into() } else { format!("lacks {}", lacking.join(", ")) };
        let auto = if kind == best { "  <- auto" } else { "" };
        let about = about(kind);
        output::say(format!("  {:<7} {verdict}{auto}\n          {about}", kind.name()));
    }
    output::say("\nfound");
    for finding in findings.iter().filter(|finding| finding.ok) {
        output::say(format!("  {:<24} {}", finding.name, finding.detail));
    }
    let missing: Vec<_> = findings.iter().filter(|finding| !finding.ok).collect();
    if !missing.is_empty() {
        output::say("\nmissing");
    }
    for finding in missing {
        output::say(format!(
            "  {:<24} {}\n    needed by: {}\n    remedy: {}",
            finding.name,
            finding.detail,
            finding.needed_by.join(", "),
            finding.remedy
        ));
    }
}

fn about(kind: Kind) -> &'static str {
    match kind {
        Kind::Kvm => "QEMU with this processor's VMX: fast; figures are time under a hypervisor",
        Kind::Bochs => "emulated VMX: needs nothing of the host; figures are exact counts of instructions",
        Kind::Nested => "QEMU/KVM in Linux in Bochs: nested virtualization on a host without any; slow",
        Kind::Tcg => "QEMU's emulation has no VMX: Atoll says so and stops",
    }
}
