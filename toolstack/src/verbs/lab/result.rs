//! What a lab finds: panels of series, and whether what the paper says holds here.

use serde::Serialize;

/// Points of one kind: what was varied, and what it cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// (x, y), by x.
    pub points: Vec<(f64, f64)>,
}

/// One chart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Panel {
    /// What it shows.
    pub title: String,
    /// What x is.
    pub x: &'static str,
    /// What y is, with its unit.
    pub y: String,
    /// `hosted`, `emulated`; `shape` where it is drawn after a paper's words and nothing was measured.
    pub label: &'static str,
    /// Where.
    pub machine: String,
    /// The series.
    pub series: Vec<Series>,
}

/// Whether a claim of a paper's holds here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Yes.
    Holds,
    /// No.
    DoesNot,
    /// Not to be said on this machine.
    CannotBeJudged,
}

/// A claim, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// What the paper says.
    pub claim: &'static str,
    /// Whether it holds.
    pub outcome: Outcome,
    /// By which figures; or why nothing can be said.
    pub why: String,
}

/// All that a lab found.
#[derive(Clone, Debug, Serialize)]
pub struct Findings {
    /// The lab.
    pub lab: &'static str,
    /// What was measured, and the paper's shape.
    pub panels: Vec<Panel>,
    /// What follows.
    pub verdicts: Vec<Verdict>,
}

impl Series {
    /// A series of this name.
    pub fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), points }
    }

    /// One that is drawn and not measured: what `cost` is at each x.
    pub fn drawn(name: &str, xs: &[f64], cost: impl Fn(f64) -> f64) -> Self {
        Self::new(name, xs.iter().map(|&x| (x, cost(x))).collect())
    }

    /// The point at x.
    pub fn at(&self, x: f64) -> Option<f64> {
        self.points.iter().find(|point| point.0 == x).map(|point| point.1)
    }

    /// The point with the greatest x.
    pub fn last(&self) -> Option<(f64, f64)> {
        self.points.last().copied()
    }
}

impl Panel {
    /// The series of this name.
    pub fn series(&self, name: &str) -> Option<&Series> {
        self.series.iter().find(|series| series.name == name)
    }

    /// The greatest x there is: how many cores, mostly.
    pub fn most(&self) -> f64 {
        self.series.iter().filter_map(Series::last).map(|point| point.0).fold(0.0, f64::max)
    }

    /// A point.
    pub fn at(&self, name: &str, x: f64) -> Option<f64> {
        self.series(name)?.at(x)
    }
}

impl Verdict {
    /// A verdict on a comparison: `left` is said to be at least `factor` times `right`. What there are no figures for cannot
    /// be judged.
    pub fn at_least(
        claim: &'static str,
        left: Option<f64>,
        factor: f64,
        right: Option<f64>,
        what: &str,
    ) -> Self {
        let (Some(left), Some(right)) = (left, right) else {
            return Self::cannot(claim, "there are no figures for it".to_owned());
        };
        let outcome = if left >= factor * right { Outcome::Holds } else { Outcome::DoesNot };
        let why =
            format!("{what}: {} against {}, where {factor} times it is wanted", figure(left), figure(right));
        Self { claim, outcome, why }
    }

    /// Nothing can be said here.
    pub fn cannot(claim: &'static str, why: String) -> Self {
        Self { claim, outcome: Outcome::CannotBeJudged, why }
    }

    /// As `judge` says where there are enough cores.
    pub fn with_cores(claim: &'static str, cores: f64, needed: u32, judge: impl FnOnce() -> Self) -> Self {
        if cores >= f64::from(needed) {
            return judge();
        }
        Self::cannot(claim, format!("{cores} cores here, and it takes {needed} to see"))
    }
}

/// A figure with three digits that matter.
pub fn figure(value: f64) -> String {
    if value >= 100.0 {
        crate::output::grouped(value.round() as u64)
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let judged = |left, factor, right| Verdict::at_least("c", left, factor, right, "x").outcome;
        assert_eq!(judged(Some(10.0), 2.0, Some(5.0)), Outcome::Holds);
        assert_eq!(judged(Some(9.9), 2.0, Some(5.0)), Outcome::DoesNot);
        assert_eq!(judged(None, 2.0, Some(5.0)), Outcome::CannotBeJudged);
        let few = Verdict::with_cores("c", 2.0, 4, || panic!("not to be judged"));
        assert_eq!(
            (few.outcome, few.why.as_str()),
            (Outcome::CannotBeJudged, "2 cores here, and it takes 4 to see")
        );
        assert_eq!(Verdict::with_cores("c", 4.0, 4, || Verdict::cannot("c", String::new())).why, "");
    }

    #[test]
    fn figures_have_three_digits() {
        assert_eq!([0.5, 42.04, 12_345.6].map(figure), ["0.50", "42.0", "12,346"]);
    }
}
