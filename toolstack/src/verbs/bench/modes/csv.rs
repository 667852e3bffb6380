//! The figures as comma-separated values (RFC 4180), a line for each kind of work in each column.

use abi::control::hypercall::ExitKind;

use super::{Figure, Outcome};

/// The whole file.
pub fn csv(figures: &[Figure]) -> String {
    let mut head: Vec<String> =
        ["work", "mode", "median", "unit", "samples", "exits"].map(str::to_owned).into();
    head.extend(ExitKind::ALL.iter().map(|kind| format!("exits_{}", kind.label())));
    head.extend(
        ["hypervisor_share", "model_cycles", "label", "machine", "processor", "absent"].map(str::to_owned),
    );
    let mut text = line(&head);
    for figure in figures {
        let mut cells = vec![figure.work.to_owned(), figure.mode.to_owned()];
        match &figure.outcome {
            Outcome::Cost(cost) => {
                cells.extend([cost.median.to_string(), cost.unit.clone(), cost.samples.to_string()]);
                cells.push(cost.exits_total().map_or(String::new(), |total| total.to_string()));
                cells.extend(ExitKind::ALL.iter().map(|kind| {
                    let exits = cost.exits.as_ref();
                    exits.map_or(String::new(), |exits| exits.get(kind.label()).unwrap_or(&0.0).to_string())
                }));
                cells.push(cost.hypervisor_share.map_or(String::new(), |share| format!("{share:.4}")));
                cells.push(cost.model_cycles.map_or(String::new(), |cycles| cycles.to_string()));
                cells.extend([cost.label.clone(), cost.machine.kind.clone(), cost.machine.processor.clone()]);
                cells.push(String::new());
            }
            Outcome::Absent { absent } => {
                cells.resize(head.len() - 1, String::new());
                cells.push(absent.clone());
            }
        }
        text.push_str(&line(&cells));
    }
    text
}

fn line(cells: &[String]) -> String {
    let mut line = cells.iter().map(|cell| quoted(cell)).collect::<Vec<_>>().join(",");
    line.push_str("\r\n");
    line
}

fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}
