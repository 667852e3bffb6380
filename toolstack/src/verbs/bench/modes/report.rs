//! The figures as one HTML file that needs nothing else: tables, charts in SVG, and what each figure is.

use super::{
    COLUMNS, Column, Cost, Figure, Outcome,
    chart::{Bar, Group, chart, escaped},
    figure::{self, MODEL},
    table::{kinds, number, percent},
};
use crate::output::grouped;

/// Colours of exits' kinds, in the order in which kinds are met.
const COLOURS: [&str; 8] =
    ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#7f7f7f"];

/// How pages look.
pub const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}\
    h1,h2{line-height:1.2}table{border-collapse:collapse;width:100%;font-size:.85rem}\
    th,td{padding:.2rem .5rem;border-bottom:1px solid #ddd;text-align:left;vertical-align:top}\
    td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}\
    svg{width:100%;height:auto}svg text{font:12px system-ui,sans-serif;fill:#222}svg .work{font-weight:600}\
    svg .mode{text-anchor:end;fill:#666}.key span{display:inline-block;margin-right:1rem}\
    .key i{display:inline-block;width:.8rem;height:.8rem;margin-right:.3rem}.note{color:#555;font-size:.85rem}";

/// The file.
pub fn report(figures: &[Figure]) -> String {
    let unit = figures.iter().find_map(Figure::cost).map_or("", |cost| cost.unit.as_str());
    let mut kinds_met: Vec<&str> = Vec::new();
    for kind in
        figures.iter().filter_map(|figure| figure.cost()?.exits.as_ref()).flat_map(|exits| exits.keys())
    {
        if !kinds_met.contains(&kind.as_str()) {
            kinds_met.push(kind);
        }
    }
    let colour = |kind: &str| {
        let at = kinds_met.iter().position(|met| *met == kind).unwrap_or(0);
        COLOURS[at % COLOURS.len()]
    };
    let whole = |value: fn(&Cost) -> Option<f64>, text: fn(&Cost) -> String| {
        groups(figures, |column, cost| {
            Some(Bar { name: column.name, text: text(cost), pieces: vec![(value(cost)?, column.colour)] })
        })
    };
    let costs = whole(|cost| Some(cost.median as f64), |cost| grouped(cost.median));
    let shares =
        whole(|cost| cost.hypervisor_share, |cost| cost.hypervisor_share.map_or(String::new(), percent));
    let model = whole(
        |cost| cost.model_cycles.map(|cycles| cycles as f64),
        |cost| cost.model_cycles.map_or(String::new(), grouped),
    );
    let exits = groups(figures, |column, cost| {
        let pieces = cost.exits.as_ref()?.iter().map(|(kind, count)| (*count, colour(kind))).collect();
        let text = cost.exits_total().filter(|total| *total > 0.0).map_or("0".to_owned(), number);
        Some(Bar { name: column.name, text, pieces })
    });
    let columns: Vec<(&str, &str)> = Column::running().map(|column| (column.name, column.colour)).collect();
    let kinds_key: Vec<(&str, &str)> = kinds_met.iter().map(|kind| (*kind, colour(kind))).collect();
    [
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Atoll: full and para virtualization</title>\n\
             <style>{STYLE}</style>\n<h1>Full and para virtualization, and the bare machine</h1>\n"
        ),
        machines(figures),
        section(&format!("What an operation costs, in {unit}"), &columns, &chart("Cost", &costs, None)),
        section("Exits of an operation, by kind", &kinds_key, &chart("Exits", &exits, None)),
        "<p class=\"note\">Counted by domain 0 over the same work, done again: single exits in a hundred operations are \
         timers of the hypervisor's.</p>\n".to_owned(),
        section("Share of the whole that is the hypervisor's", &columns, &chart("Share", &shares, Some(1.0))),
        "<p class=\"note\">What an operation costs beyond the bare machine's, of the whole; \
         none where the guest's own work is another than there, or where the bare machine waits for a device.</p>\n".to_owned(),
        section("Cycles by a cost model", &columns, &chart("Model", &model, None)),
        format!("<p class=\"note\">{}.</p>\n", escaped(MODEL)),
        all(figures),
        "</html>\n".to_owned(),
    ]
    .concat()
}

fn groups<'a>(
    figures: &'a [Figure],
    bar: impl Fn(&'static Column, &'a Cost) -> Option<Bar<'a>>,
) -> Vec<Group<'a>> {
    let bars = |work: &str| {
        let of = |column: &'static Column| bar(column, figure::find(figures, work, column.name)?);
        Column::running().filter_map(of).collect()
    };
    figure::works(figures).iter().map(|work| Group { name: work.name, bars: bars(work.name) }).collect()
}

fn section(title: &str, key: &[(&str, &str)], chart: &str) -> String {
    let key: String = key
        .iter()
        .map(|(name, colour)| format!("<span><i style=\"background:{colour}\"></i>{}</span>", escaped(name)))
        .collect();
    format!("<h2>{}</h2>\n<p class=\"key\">{key}</p>\n{chart}", escaped(title))
}

/// The columns: what they are, where they were measured, and why one is empty.
fn machines(figures: &[Figure]) -> String {
    let mut text = "<table><tr><th>Mode<th>What it is<th>Label<th>Machine</tr>\n".to_owned();
    for column in COLUMNS {
        let cost = figures.iter().filter(|figure| figure.mode == column.name).find_map(Figure::cost);
        let (label, machine) = match (cost, column.not_offered()) {
            (_, Some(why)) => ("-".to_owned(), why.to_owned()),
            (Some(Cost { label, machine, .. }), None) => {
                (label.clone(), format!("{}, {} cores {}", machine.kind, machine.cores, machine.processor))
            }
            (None, None) => ("-".to_owned(), "no figures".to_owned()),
        };
        let cells = [column.name, column.what, &label, &machine].map(escaped);
        text.push_str(&format!("<tr><td>{}</tr>\n", cells.join("<td>")));
    }
    text + "</table>\n"
}

/// All figures.
fn all(figures: &[Figure]) -> String {
    let mut text = "<h2>All figures</h2>\n<table><tr><th>Work<th>Mode<th class=\"n\">Median<th class=\"n\">Exits<th>By kind\
        <th class=\"n\">Hypervisor<th class=\"n\">Model cycles<th>Label</tr>\n"
        .to_owned();
    for figure in figures {
        let cells = match &figure.outcome {
            Outcome::Cost(cost) => format!(
                "<td class=\"n\">{}<td class=\"n\">{}<td>{}<td class=\"n\">{}<td class=\"n\">{}<td>{}",
                grouped(cost.median),
                cost.exits_total().map_or(String::new(), number),
                escaped(&kinds(cost)),
                cost.hypervisor_share.map_or(String::new(), percent),
                cost.model_cycles.map_or(String::new(), grouped),
                escaped(&cost.label),
            ),
            Outcome::Absent { absent } => format!("<td colspan=\"6\">{}", escaped(absent)),
        };
        text.push_str(&format!("<tr><td>{}<td>{}{cells}</tr>\n", figure.work, figure.mode));
    }
    text.push_str("</table>\n<h2>The work</h2>\n<table>\n");
    for work in figure::works(figures) {
        text.push_str(&format!("<tr><td>{}<td>{}</tr>\n", work.name, escaped(work.what)));
    }
    text + "</table>\n"
}
