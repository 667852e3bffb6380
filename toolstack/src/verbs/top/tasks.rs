//! Whose time it was between two snapshots.

use abi::control::wire::Account;

use super::Snapshot;

/// One account's share of a span.
pub(super) struct Share<'snapshots> {
    pub(super) domain: &'snapshots str,
    /// The task's name and number, or the core's.
    pub(super) name: String,
    /// Parts of its core's time, from 0 to 1, that the task worked.
    pub(super) worked: f64,
    /// Parts that the account paid.
    pub(super) paid: f64,
    pub(super) polls: u64,
    pub(super) received: u64,
    pub(super) sent: u64,
    /// What it came to since its begin.
    pub(super) total: &'snapshots Account,
}

/// All accounts of these domains, in the order of the domains. An account that is new began from nothing.
pub(super) fn shares<'s>(old: &Snapshot, new: &'s Snapshot, skip: usize) -> Vec<Share<'s>> {
    let ticks = new.machine.tsc.saturating_sub(old.machine.tsc).max(1) as f64;
    let mut shares = Vec::new();
    for (domain, accounts) in new.domains.iter().zip(&new.accounts).skip(skip) {
        let place =
            old.domains.iter().position(|before| before.id == domain.id && before.name == domain.name);
        let before = place.and_then(|place| old.accounts.get(place)?.as_ref());
        for total in accounts.iter().flatten() {
            let same = |account: &&Account| {
                (account.number, account.is_core, &account.name) == (total.number, total.is_core, &total.name)
            };
            let Some(before) = before else { continue };
            let before = before.iter().find(same).cloned().unwrap_or_default();
            shares.push(Share {
                domain: &domain.name,
                name: label(total),
                worked: total.worked.saturating_sub(before.worked) as f64 / ticks,
                paid: total.paid.saturating_sub(before.paid) as f64 / ticks,
                polls: total.polls.saturating_sub(before.polls),
                received: total.received.saturating_sub(before.received),
                sent: total.sent.saturating_sub(before.sent),
                total,
            });
        }
    }
    shares
}

fn label(account: &Account) -> String {
    if account.is_core {
        format!("core {}", account.number)
    } else {
        format!("{} {}", account.name, account.number)
    }
}
