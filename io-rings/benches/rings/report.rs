//! The figures as a table for people, and as rows for programs.

use serde_json::{Value, json};

pub struct Figures {
    pub name: &'static str,
    pub library: bool,
    pub one_way_ns: f64,
    /// Messages of 64 bytes.
    pub per_second: Option<f64>,
}

/// What the others are compared with: the bare line's latency and the best library's throughput.
fn yardsticks(figures: &[Figures]) -> (f64, f64) {
    let bare = figures.iter().find(|row| row.name == "bare_line").map_or(f64::NAN, |row| row.one_way_ns);
    let best =
        figures.iter().filter(|row| row.library).filter_map(|row| row.per_second).fold(f64::NAN, f64::max);
    (bare, best)
}

/// How many times as many calls go through with sixteen in flight as with one.
fn pipelined(figures: &[Figures]) -> f64 {
    let each = |name: &str| figures.iter().find(|row| row.name == name).map(|row| row.one_way_ns);
    each("rpc_depth_1").zip(each("rpc_depth_16")).map_or(f64::NAN, |(one, deep)| one / deep)
}

pub fn table(figures: &[Figures]) -> String {
    let (bare, best) = yardsticks(figures);
    let mut text = format!(
        "{:<24}{:>14}{:>14}{:>18}{:>18}",
        "", "one way, ns", "x bare line", "M messages/s", "x best library"
    );
    for row in figures {
        text += &format!("\n{:<24}{:>14.1}{:>14.2}", row.name, row.one_way_ns, row.one_way_ns / bare);
        if let Some(rate) = row.per_second {
            text += &format!("{:>18.1}{:>18.2}", rate / 1e6, rate / best);
        }
    }
    text += &format!("\ncalls with 16 in flight: {:.2} x those with 1", pipelined(figures));
    text
}

/// Every figure, and the three ratios that are promised, each with the machine beside it.
pub fn json(figures: &[Figures], machine: &str) -> Value {
    let (bare, best) = yardsticks(figures);
    let row = |name: String, median: f64, unit: &str| {
        // Four places are more than a median of time on a shared machine can hold.
        let median = (median * 1e4).round() / 1e4;
        json!({ "name": name, "median": median, "unit": unit, "label": "hosted", "machine": machine })
    };
    let rows = figures.iter().flat_map(|figure| {
        let name = figure.name;
        let latency = row(format!("{name}_one_way"), figure.one_way_ns, "ns");
        let to_bare = row(format!("{name}_to_bare_line"), figure.one_way_ns / bare, "ratio");
        let rates = figure.per_second.into_iter().flat_map(move |rate| {
            [
                row(format!("{name}_messages"), rate, "messages/s"),
                row(format!("{name}_to_best_library"), rate / best, "ratio"),
            ]
        });
        [latency, to_bare].into_iter().chain(rates)
    });
    let pipelined = row("rpc_depth_16_to_depth_1".into(), pipelined(figures), "ratio");
    Value::Array(rows.chain([pipelined]).collect())
}
