//! A figure: what one kind of work costs in one column.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    super::{MachineDescription, Row},
    COLUMNS, Work,
};

/// What an exit costs in silicon, in cycles: the direct cost of a world switch, there and back, as published by Landau,
/// Ben-Yehuda and Gordon, "SplitX: Split Guest/Hypervisor Execution on Multi-Core" (WIOV 2011), table 1: 2,000 cycles on
/// a Xeon X5570. What handling the exit costs, and caches that are colder after it, are not in it.
pub const CYCLES_PER_EXIT: f64 = 2000.0;
/// The same, for whoever reads a report.
pub const MODEL: &str = "model: instructions at one a cycle, and for each exit the 2,000 cycles that Landau, Ben-Yehuda and \
    Gordon published as the direct cost of a world switch (SplitX, WIOV 2011, Xeon X5570). It is no measurement: caches, \
    TLBs and newer processors are not in it";

/// One kind of work in one column.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// The work.
    pub work: &'static str,
    /// The column.
    pub mode: &'static str,
    /// What it costs, or why that is not known.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What came out.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Outcome {
    /// A cost.
    Cost(Cost),
    /// None.
    Absent {
        /// Why.
        absent: String,
    },
}

/// What an operation costs.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// The median.
    pub median: u64,
    /// Its unit.
    pub unit: String,
    /// Of how many samples.
    pub samples: u64,
    /// Exits of an operation by kind; `None` where nobody counts.
    pub exits: Option<BTreeMap<String, f64>>,
    /// What is spent in the hypervisor, of the whole: (this - bare) / this. `None` where bare takes longer, as it waits for
    /// a device, or where the guest's own work is another than there.
    pub hypervisor_share: Option<f64>,
    /// See [`MODEL`].
    pub model_cycles: Option<u64>,
    /// The kind of figure.
    pub label: String,
    /// Where.
    pub machine: MachineDescription,
}

impl Cost {
    /// All exits of an operation.
    pub fn exits_total(&self) -> Option<f64> {
        self.exits.as_ref().map(sum)
    }
}

impl Figure {
    /// The cost, where there is one.
    pub fn cost(&self) -> Option<&Cost> {
        match &self.outcome {
            Outcome::Cost(cost) => Some(cost),
            Outcome::Absent { .. } => None,
        }
    }
}

/// The figure of this work in this column.
pub fn find<'figures>(figures: &'figures [Figure], work: &str, mode: &str) -> Option<&'figures Cost> {
    figures.iter().find(|figure| figure.work == work && figure.mode == mode)?.cost()
}

/// The kinds of work in these figures, in their order.
pub fn works(figures: &[Figure]) -> Vec<&'static Work> {
    let mut works: Vec<_> = figures.iter().filter_map(|figure| Work::find(figure.work)).collect();
    works.dedup_by_key(|work| work.name);
    works
}

/// A figure for each work and column, out of the rows that guests printed (`instructions`, `operations`) and domain 0
/// (`exits`). Columns that `failed` say why.
pub fn join(works: &'static [Work], rows: &[Row], failed: &[(&str, String)]) -> Vec<Figure> {
    let counted = |name: &str, unit: &str| rows.iter().find(|row| row.name == name && row.unit == unit);
    let timed = |name: &str| {
        rows.iter().find(|row| row.name == name && !["exits", "operations"].contains(&row.unit.as_str()))
    };
    let median = |work: &str, mode: &str| timed(&format!("{mode}/{work}"))?.median.as_u64();
    let mut figures = Vec::new();
    for work in works {
        let bare =
            COLUMNS.iter().find(|column| column.is_bare()).and_then(|bare| median(work.name, bare.name));
        for column in COLUMNS {
            let name = format!("{}/{}", column.name, work.name);
            let reason = failed.iter().find(|(failed, _)| *failed == column.name);
            let outcome = match (column.not_offered(), timed(&name)) {
                (Some(absent), _) => Outcome::Absent { absent: absent.to_owned() },
                (None, None) => Outcome::Absent {
                    absent: reason
                        .map_or_else(|| work.absent(column.name).to_owned(), |(_, why)| why.clone()),
                },
                (None, Some(found)) => {
                    let operations = counted(&name, "operations").and_then(|row| row.median.as_u64());
                    let exits = counted(&name, "exits").and_then(|row| row.exits.as_ref());
                    let exits = if column.is_bare() {
                        Some(BTreeMap::new())
                    } else {
                        exits.zip(operations).map(|(exits, operations)| per_operation(exits, operations))
                    };
                    Outcome::Cost(cost(found, exits, bare.filter(|_| work.is_comparable(column.name))))
                }
            };
            figures.push(Figure { work: work.name, mode: column.name, outcome });
        }
    }
    figures
}

/// To two places: what an operation in a hundred does is a timer of the hypervisor's.
fn per_operation(exits: &BTreeMap<String, u64>, operations: u64) -> BTreeMap<String, f64> {
    let each = |&count: &u64| (count as f64 * 100.0 / operations.max(1) as f64).round() / 100.0;
    exits.iter().map(|(kind, count)| (kind.clone(), each(count))).filter(|(_, each)| *each > 0.0).collect()
}

fn sum(exits: &BTreeMap<String, f64>) -> f64 {
    exits.values().fold(0.0, |sum, count| sum + count)
}

fn cost(row: &Row, exits: Option<BTreeMap<String, f64>>, bare: Option<u64>) -> Cost {
    let median = row.median.as_u64().unwrap_or(0);
    let total = exits.as_ref().map(sum);
    Cost {
        median,
        unit: row.unit.clone(),
        samples: row.samples,
        hypervisor_share: bare
            .filter(|bare| *bare <= median)
            .map(|bare| (median - bare) as f64 / median.max(1) as f64),
        model_cycles: total.map(|total| (median as f64 + total * CYCLES_PER_EXIT).round() as u64),
        exits,
        label: row.label.clone(),
        machine: row.machine.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::bench::{
        modes::{WORKS, csv, report, table},
        parse,
    };

    const LOG: &str = r#"
[a] bench: {"name":"bare/cpuid","median":10,"unit":"instructions","samples":1000}
[a] bench: {"name":"full-ept/cpuid","median":180,"unit":"instructions","samples":1000}
[a] bench: {"name":"full-ept/cpuid","median":1000,"unit":"operations","samples":1000}
[c] bench: {"name":"full-ept/cpuid","median":1003,"unit":"exits","samples":1,"exits":{"cpuid":1000,"timer":3}}
[a] bench: {"name":"para-ept/cpuid","median":160,"unit":"instructions","samples":1000}
[a] bench: {"name":"bare/console_4k","median":900,"unit":"instructions","samples":5}
[a] bench: {"name":"full-ept/console_4k","median":800,"unit":"instructions","samples":5}
"#;

    fn figures() -> Vec<Figure> {
        let machine = MachineDescription {
            kind: "bochs".into(),
            cores: 3,
            tsc_khz: 0,
            processor: "one, \"quoted\" <&>".into(),
            host_processor: String::new(),
        };
        join(WORKS, &parse(LOG, "emulated", &machine), &[("full-ept", "it crashed".to_owned())])
    }

    #[test]
    fn a_figure_is_joined_from_what_guest_and_domain_0_say() {
        let figures = figures();
        assert_eq!(figures.len(), WORKS.len() * COLUMNS.len());
        let cost = find(&figures, "cpuid", "full-ept").unwrap();
        assert_eq!((cost.median, cost.exits_total()), (180, Some(1.0)));
        assert!((cost.hypervisor_share.unwrap() - 170.0 / 180.0).abs() < 1e-9);
        assert_eq!(cost.model_cycles, Some(2180));
        let bare = find(&figures, "cpuid", "bare").unwrap();
        assert_eq!(
            (bare.exits_total(), bare.hypervisor_share, bare.model_cycles),
            (Some(0.0), Some(0.0), Some(10))
        );
    }

    #[test]
    fn what_is_not_known_is_not_told() {
        let figures = figures();
        let uncounted = find(&figures, "cpuid", "para-ept").unwrap();
        assert_eq!((uncounted.exits_total(), uncounted.model_cycles), (None, None));
        // Bare waited for a device: there is no share to tell.
        assert_eq!(find(&figures, "console_4k", "full-ept").unwrap().hypervisor_share, None);
        assert!(find(&figures, "mmio_apic_id", "para-ept").is_none());
        let absent =
            serde_json::to_value(figures.iter().find(|figure| figure.mode == "para-shadow").unwrap())
                .unwrap();
        let crashed =
            figures.iter().find(|figure| (figure.mode, figure.work) == ("full-ept", "process")).unwrap();
        assert!(matches!(&crashed.outcome, Outcome::Absent { absent } if absent == "it crashed"));
        assert!(absent["absent"].as_str().unwrap().contains("not offered"));
    }

    #[test]
    fn all_forms_have_all_figures() {
        let figures = figures();
        let lines = csv(&figures);
        assert_eq!(lines.lines().count(), figures.len() + 1);
        assert!(lines.contains("cpuid,full-ept,180,instructions,1000,1,"));
        assert!(lines.contains("\"one, \"\"quoted\"\" <&>\""));
        let page = report(&figures);
        assert!(page.contains("one, &quot;quoted&quot; &lt;&amp;&gt;") && !page.contains("<&>"));
        assert_eq!(page.matches("<svg").count(), 4);
        let text = table(&figures);
        assert!(text.contains("2,180") && text.contains("94 %") && text.contains("not counted"));
    }
}
