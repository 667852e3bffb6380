//! Findings in the terminal, and as comma-separated values.

use std::fmt::Write;

use super::{Findings, Lab, Outcome, Panel, Verdict, result::figure};

/// Columns that the longest bar takes.
const WIDTH: f64 = 40.0;

/// All of it.
pub fn text(lab: &Lab, findings: &Findings) -> String {
    let mut text = format!("{}\n\n{}:\n{}\n\n", lab.title, lab.paper.citation, lab.paper.says);
    for panel in &findings.panels {
        chart(panel, &mut text);
    }
    for verdict in &findings.verdicts {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{} {}: {}", mark(verdict), verdict.claim, verdict.why);
    }
    let _ = write!(text, "\n{}", lab.note);
    text
}

fn mark(verdict: &Verdict) -> &'static str {
    match verdict.outcome {
        Outcome::Holds => "holds          ",
        Outcome::DoesNot => "does not hold  ",
        Outcome::CannotBeJudged => "cannot be judged",
    }
}

/// Bars: for each x one of each series.
fn chart(panel: &Panel, text: &mut String) {
    let _ =
        writeln!(text, "{} ({}), by {} [{}: {}]", panel.title, panel.y, panel.x, panel.label, panel.machine);
    let all = || panel.series.iter().flat_map(|series| &series.points);
    let longest = all().map(|point| point.1).fold(0.0, f64::max);
    let name = panel.series.iter().map(|series| series.name.chars().count()).max().unwrap_or(0);
    for x in xs(panel) {
        for (place, series) in panel.series.iter().enumerate() {
            let Some(value) = series.at(x) else { continue };
            let length = if longest > 0.0 { (value / longest * WIDTH).round().max(1.0) as usize } else { 0 };
            let first = if place == 0 { figure_of(x) } else { String::new() };
            let bar = "█".repeat(length);
            let value = if panel.label == "shape" { String::new() } else { format!(" {}", figure(value)) };
            let _ = writeln!(text, "{first:>4} {:<name$} {bar}{value}", series.name);
        }
    }
    text.push('\n');
}

/// Each x that some series has, in order.
pub fn xs(panel: &Panel) -> Vec<f64> {
    let mut xs: Vec<f64> =
        panel.series.iter().flat_map(|series| &series.points).map(|point| point.0).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    xs
}

/// A whole number.
pub fn figure_of(x: f64) -> String {
    format!("{x:.0}")
}

/// A line a point.
pub fn csv(findings: &Findings) -> String {
    let mut text = "lab,panel,series,x,x_is,y,y_is,label,machine\n".to_owned();
    for panel in &findings.panels {
        for series in &panel.series {
            for (x, y) in &series.points {
                let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
                let cells = [
                    findings.lab.to_owned(),
                    quoted(&panel.title),
                    quoted(&series.name),
                    x.to_string(),
                    quoted(panel.x),
                    y.to_string(),
                    quoted(&panel.y),
                    panel.label.to_owned(),
                    quoted(&panel.machine),
                ];
                text.push_str(&cells.join(","));
                text.push('\n');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::lab::{LABS, Series, drawn, findings};

    fn measured() -> Panel {
        let series =
            vec![Series::new("a", vec![(1.0, 10.0), (2.0, 40.0)]), Series::new("b", vec![(2.0, 20.0)])];
        Panel { label: "hosted", machine: "here, \"now\"".to_owned(), ..drawn("An update", "cores", series) }
    }

    #[test]
    fn bars_are_as_long_as_they_should_be() {
        let mut text = String::new();
        chart(&measured(), &mut text);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "An update (no unit), by cores [hosted: here, \"now\"]");
        assert_eq!(lines[1], format!("   1 a {} 10.0", "█".repeat(10)));
        assert_eq!(lines[2], format!("   2 a {} 40.0", "█".repeat(40)));
        assert_eq!(lines[3], format!("     b {} 20.0", "█".repeat(20)));
    }

    #[test]
    fn all_is_said() {
        for lab in LABS {
            let found = findings(lab, vec![measured()]);
            let text = text(lab, &found);
            assert!(text.contains(lab.paper.citation) && text.contains("[shape: "), "{text}");
            assert!(found.verdicts.iter().all(|verdict| text.contains(verdict.claim)), "{text}");
        }
    }

    /// Without what is said of the machine, which is the same for all.
    #[test]
    fn the_book_shows_each_shape() {
        const BOOK: &str = include_str!("../../../../docs/labs.md");
        for shape in LABS.iter().flat_map(|lab| (lab.paper.shape)()) {
            let mut text = String::new();
            chart(&shape, &mut text);
            let (title, bars) = text.split_once('\n').unwrap();
            let title = title.split(" [").next().unwrap_or_default();
            assert!(BOOK.contains(&format!("{title}\n{}", bars.trim_end())), "docs/labs.md lacks:\n{text}");
        }
    }

    #[test]
    fn a_line_a_point() {
        let found = Findings { lab: "x", panels: vec![measured()], verdicts: Vec::new() };
        let csv = csv(&found);
        assert_eq!(csv.lines().count(), 4);
        assert_eq!(
            csv.lines().nth(1).unwrap(),
            "x,\"An update\",\"a\",1,\"cores\",10,\"no unit\",hosted,\"here, \"\"now\"\"\""
        );
    }
}
