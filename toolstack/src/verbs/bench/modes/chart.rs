//! Bar charts in SVG: a group of bars for each kind of work, a bar for each column, as long as the group's longest allows.
//! Kinds of work differ by orders of magnitude, so each group has its own scale where none is given, and each bar its figure
//! beside it.

use std::fmt::Write;

/// A bar, in pieces of different colours.
pub struct Bar<'a> {
    /// What it stands for.
    pub name: &'a str,
    /// The figure beside it.
    pub text: String,
    /// Lengths and colours.
    pub pieces: Vec<(f64, &'a str)>,
}

/// Bars that are compared with each other.
pub struct Group<'a> {
    /// What is compared.
    pub name: &'a str,
    /// The bars.
    pub bars: Vec<Bar<'a>>,
}

const LEFT: f64 = 250.0;
const LENGTH: f64 = 460.0;
const WIDTH: f64 = 960.0;
const BAR: f64 = 16.0;
const STEP: f64 = 20.0;
const GAP: f64 = 14.0;

/// The chart. `longest`: what the longest bar there can be stands for.
pub fn chart(title: &str, groups: &[Group<'_>], longest: Option<f64>) -> String {
    let lines: usize = groups.iter().map(|group| group.bars.len()).sum();
    let height = lines as f64 * STEP + groups.len() as f64 * GAP;
    let mut svg = String::new();
    let title = escaped(title);
    // Writing to a string does not fail.
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\">\
         <title>{title}</title>"
    );
    let mut top = 0.0;
    for group in groups {
        let longest = longest.unwrap_or_else(|| group.bars.iter().map(length).fold(0.0, f64::max));
        for (number, bar) in group.bars.iter().enumerate() {
            let middle = top + BAR * 0.75;
            if number == 0 {
                let _ = writeln!(
                    svg,
                    "<text class=\"work\" x=\"0\" y=\"{middle}\">{}</text>",
                    escaped(group.name)
                );
            }
            let name = escaped(bar.name);
            let _ = writeln!(svg, "<text class=\"mode\" x=\"{}\" y=\"{middle}\">{name}</text>", LEFT - 8.0);
            let mut from = LEFT;
            for &(value, colour) in &bar.pieces {
                let width = if longest > 0.0 { value / longest * LENGTH } else { 0.0 };
                let _ = writeln!(
                    svg,
                    "<rect x=\"{from:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>"
                );
                from += width;
            }
            let _ =
                writeln!(svg, "<text x=\"{:.1}\" y=\"{middle}\">{}</text>", from + 6.0, escaped(&bar.text));
            top += STEP;
        }
        top += GAP;
    }
    svg.push_str("</svg>\n");
    svg
}

fn length(bar: &Bar<'_>) -> f64 {
    bar.pieces.iter().map(|(value, _)| value).sum()
}

/// Text as HTML and SVG take it.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
