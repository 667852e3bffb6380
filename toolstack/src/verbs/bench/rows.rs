//! A figure, and how a guest says it: a console line `bench: {"name":...,"median":...,"unit":...,"samples":...}`,
//! which the serial log has behind the guest's name. Domain 0 says the figures that only it can count in the same way.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Number;

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// The median of the samples.
    pub median: Number,
    /// Its unit.
    pub unit: String,
    /// How many samples.
    pub samples: u64,
    /// Whether it is an exact count, or time under hypervisors.
    pub label: String,
    /// Where.
    pub machine: MachineDescription,
    /// Of a count of exits: how many of each kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exits: Option<BTreeMap<String, u64>>,
}

/// Where a figure was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MachineDescription {
    /// The machine's name on the command line.
    pub kind: String,
    /// Its cores.
    pub cores: u32,
    /// Rate of its time-stamp counter.
    pub tsc_khz: u32,
    /// Its processor.
    pub processor: String,
    /// The processor underneath.
    pub host_processor: String,
}

#[derive(Deserialize)]
struct Printed {
    name: String,
    median: Number,
    unit: String,
    samples: u64,
    exits: Option<BTreeMap<String, u64>>,
}

/// The figures in a serial log. What a guest prints beside them is no error.
pub fn parse(log: &str, label: &str, machine: &MachineDescription) -> Vec<Row> {
    log.lines()
        .filter_map(|line| serde_json::from_str(line.split_once("bench: ")?.1.trim()).ok())
        .map(|Printed { name, median, unit, samples, exits }| Row {
            name,
            median,
            unit,
            samples,
            label: label.to_owned(),
            machine: machine.clone(),
            exits,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_among_other_lines() {
        let machine = MachineDescription {
            kind: "bochs".into(),
            cores: 3,
            tsc_khz: 0,
            processor: String::new(),
            host_processor: String::new(),
        };
        let log = "atoll: 2 guests running\n\
            [bench1] bench: starts\n\
            [bench1] bench: {\"name\":\"hypercall_null\",\"median\":123,\"unit\":\"instructions\",\"samples\":1000}\n\
            [bench1] bench: {\"name\":\"broken\n";
        let rows = parse(log, "emulated", &machine);
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].name.as_str(), rows[0].median.as_u64()), ("hypercall_null", Some(123)));
        let json = serde_json::to_value(&rows[0]).unwrap();
        assert_eq!((&json["label"], &json["machine"]["kind"]), (&"emulated".into(), &"bochs".into()));
    }
}
