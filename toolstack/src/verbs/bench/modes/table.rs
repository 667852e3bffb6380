//! The figures on a terminal: what work costs in each column, and then each figure's exits, share and model.

use super::{COLUMNS, Column, Figure, Outcome, figure};
use crate::output;

/// Both tables, and what is to be known of them.
pub fn table(figures: &[Figure]) -> String {
    let mut text = compared(figures);
    text.push_str("\n\n");
    text.push_str(&detailed(figures));
    text.push_str(&format!("\n\nhypervisor: share of the whole beyond bare\n{}\n", figure::MODEL));
    for column in COLUMNS {
        let why = column.not_offered().map(|why| format!("; {why}")).unwrap_or_default();
        text.push_str(&format!("{}: {}{why}\n", column.name, column.what));
    }
    let machines = Column::running().filter_map(|column| {
        let cost = figures.iter().filter(|figure| figure.mode == column.name).find_map(Figure::cost)?;
        Some(format!("{}: {}, {}, {} cores", column.name, cost.label, cost.machine.kind, cost.machine.cores))
    });
    for machine in machines {
        text.push_str(&machine);
        text.push('\n');
    }
    text.trim_end().to_owned()
}

fn compared(figures: &[Figure]) -> String {
    let columns: Vec<&Column> = Column::running().collect();
    let mut header = vec!["Work"];
    header.extend(columns.iter().map(|column| column.name));
    header.push("Unit");
    let mut table = output::table(&header);
    for work in figure::works(figures) {
        let costs: Vec<_> =
            columns.iter().map(|column| figure::find(figures, work.name, column.name)).collect();
        let mut line = vec![work.name.to_owned()];
        line.extend(
            costs.iter().map(|cost| cost.map_or("-".to_owned(), |cost| output::grouped(cost.median))),
        );
        line.push(costs.iter().flatten().next().map_or(String::new(), |cost| cost.unit.clone()));
        table.add_row(line);
    }
    output::rendered(table, &(1..=columns.len()).collect::<Vec<_>>())
}

fn detailed(figures: &[Figure]) -> String {
    let mut table =
        output::table(&["Work", "Mode", "Median", "Exits", "By kind", "Hypervisor", "Model cycles", "Label"]);
    for figure in figures {
        let place = [figure.work.to_owned(), figure.mode.to_owned()];
        let rest = match &figure.outcome {
            Outcome::Cost(cost) => [
                output::grouped(cost.median),
                cost.exits_total().map_or("-".to_owned(), number),
                kinds(cost),
                cost.hypervisor_share.map_or("-".to_owned(), percent),
                cost.model_cycles.map_or("-".to_owned(), output::grouped),
                cost.label.clone(),
            ],
            // A column that is not there at all is told of once, below.
            Outcome::Absent { .. } if is_absent(figure) => continue,
            Outcome::Absent { absent } => ["-", "-", absent.as_str(), "-", "-", "-"].map(str::to_owned),
        };
        table.add_row(place.into_iter().chain(rest));
    }
    output::rendered(table, &[2, 3, 5, 6])
}

fn is_absent(figure: &Figure) -> bool {
    COLUMNS.iter().any(|column| column.name == figure.mode && column.not_offered().is_some())
}

/// Exits by kind, as `2 io, 1 wrmsr`.
pub fn kinds(cost: &super::Cost) -> String {
    let Some(exits) = &cost.exits else { return "not counted".to_owned() };
    let mut exits: Vec<_> = exits.iter().collect();
    exits.sort_by(|one, other| other.1.total_cmp(one.1));
    exits.iter().map(|(kind, count)| format!("{} {kind}", number(**count))).collect::<Vec<_>>().join(", ")
}

/// Without places that say nothing.
pub fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A share in per cent.
pub fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}
