//! Findings as one HTML file that needs nothing else.

use super::{
    Findings, Lab, Outcome, Panel,
    result::figure,
    text::{figure_of, xs},
};
use crate::verbs::bench::modes::{Bar, Group, STYLE, chart, escaped};

/// Colours of the series, in their order.
const COLOURS: [&str; 8] =
    ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a900", "#7f7f7f"];

/// The file.
pub fn page(lab: &Lab, findings: &Findings) -> String {
    let title = escaped(lab.title);
    let mut text = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Atoll: {title}</title>\n<style>{STYLE}</style>\n\
         <h1>{title}</h1>\n<p><b>{}</b>: {}</p>\n",
        escaped(lab.paper.citation),
        escaped(lab.paper.says)
    );
    for panel in &findings.panels {
        text.push_str(&section(panel));
    }
    text.push_str("<h2>Whether it holds here</h2>\n<table><tr><th>What the paper says<th>Here<th>By which figures</tr>\n");
    for verdict in &findings.verdicts {
        let outcome = match verdict.outcome {
            Outcome::Holds => "holds",
            Outcome::DoesNot => "does not hold",
            Outcome::CannotBeJudged => "cannot be judged",
        };
        let why = escaped(&verdict.why);
        text.push_str(&format!("<tr><td>{}<td>{outcome}<td>{why}</tr>\n", escaped(verdict.claim)));
    }
    text.push_str(&format!("</table>\n<p class=\"note\">{}</p>\n</html>\n", escaped(lab.note)));
    text
}

fn section(panel: &Panel) -> String {
    let xs: Vec<(f64, String)> =
        xs(panel).into_iter().map(|x| (x, format!("{} {}", figure_of(x), panel.x))).collect();
    let bars = |x: f64| {
        let bars = panel.series.iter().zip(COLOURS.iter().cycle()).filter_map(|(series, colour)| {
            let value = series.at(x)?;
            let text = if panel.label == "shape" { String::new() } else { figure(value) };
            Some(Bar { name: &series.name, text, pieces: vec![(value, *colour)] })
        });
        bars.collect()
    };
    let groups: Vec<Group<'_>> = xs.iter().map(|(x, name)| Group { name, bars: bars(*x) }).collect();
    let longest =
        panel.series.iter().flat_map(|series| &series.points).map(|point| point.1).fold(0.0, f64::max);
    format!(
        "<h2>{} ({})</h2>\n<p class=\"note\">{}: {}</p>\n{}",
        escaped(&panel.title),
        escaped(&panel.y),
        panel.label,
        escaped(&panel.machine),
        chart(&panel.title, &groups, Some(longest))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::lab::{LABS, findings};

    #[test]
    fn every_lab_has_a_page() {
        for lab in LABS {
            let found = findings(lab, (lab.paper.shape)());
            let page = page(lab, &found);
            assert_eq!(page.matches("<svg").count(), found.panels.len(), "{}", lab.name);
            assert_eq!(page.matches("<tr>").count(), found.verdicts.len() + 1);
            assert!(page.ends_with("</html>\n"));
        }
    }
}
