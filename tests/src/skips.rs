//! Checks that may be left out, and why that is no loss. Nothing else may be skipped where `CI` is set.

use std::env;

/// Name of the check, and the only reason for which it may be skipped.
pub const ALLOWED: &[(&str, &str)] =
    &[("r14_kvm::guests_run_under_the_hosts_own_kvm", "needs a host whose KVM hands VMX on to its guests")];

/// Whether this check may be skipped here.
pub fn is_allowed(check: &str) -> bool {
    let in_ci = env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false");
    !in_ci || ALLOWED.iter().any(|(name, _)| *name == check)
}
