//! A page as JSON.

use serde_json::{Value, json};

use super::{super::list, Snapshot, tasks};

/// The machine's second: domains with what they came to, and of each task its share of the second.
pub(super) fn page(old: &Snapshot, new: &Snapshot) -> Value {
    let shares = tasks::shares(old, new, 0);
    let domains = new.domains.iter().map(|domain| {
        let own = shares.iter().filter(|share| share.domain == domain.name);
        let tasks: Vec<Value> = own
            .map(|share| {
                json!({
                    "name": share.name,
                    "worked": share.worked,
                    "paid": share.paid,
                    "worked_ticks": share.total.worked,
                    "paid_ticks": share.total.paid,
                    "polls": share.total.polls,
                    "messages_in": share.total.received,
                    "messages_out": share.total.sent,
                })
            })
            .collect();
        let mut object = list::domain_json(domain);
        if let Some(fields) = object.as_object_mut() {
            fields.insert("tasks".into(), tasks.into());
        }
        object
    });
    json!({
        "ticks": new.machine.tsc.saturating_sub(old.machine.tsc),
        "tsc_khz": new.machine.tsc_khz,
        "domains": domains.collect::<Vec<_>>(),
    })
}
