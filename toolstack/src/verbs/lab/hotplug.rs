//! What it takes to remove a core and to bring it back, beside Linux's CPU hot-plug.

use super::{
    Guests, Lab, Paper,
    result::{Panel, Series, Verdict},
};
use crate::{config::any_core, control::Offline, error::Result, verbs::core::ask_offline};

/// See the module.
pub const LAB: Lab = Lab {
    name: "hotplug",
    title: "A core goes, and comes back",
    paper: Paper {
        citation: "Zellweger et al., Decoupling Cores, Kernels, and Operating Systems, OSDI 2014",
        says: "In Linux, to remove a core and to add one takes long, since all cores have to agree while the machine stands; where \
               each core has a kernel of its own whose state is an object, it takes a fraction, and the others go on.",
        shape,
    },
    note: "In a virtual machine only (`--on vm`). The guest on the core suspends itself, is kept, and goes on. Linux 6.1 was measured \
           once, in Bochs with 2 CPUs, medians of 21: that is what the figure beside it is.",
    on_host: Err("a thread of the host cannot take its processor out"),
    in_vm: Ok(in_vm),
    judge,
};

const TITLE: &str = "From request to done";
/// Linux's ticks in Bochs: down, up.
const LINUX: [f64; 2] = [59_700_000.0, 80_200_000.0];
const TIMES: usize = 7;

/// Down is 1, up is 2.
fn shape() -> Vec<Panel> {
    let two = |name: &str, down: f64, up: f64| Series::new(name, vec![(1.0, down), (2.0, up)]);
    vec![super::drawn(
        TITLE,
        "direction (1 down, 2 up)",
        vec![two("a kernel a core", 1.0, 1.0), two("Linux", 30.0, 40.0)],
    )]
}

/// Takes core 1 with a mesh guest on it out and back in, again and again: medians.
pub fn in_vm(guests: &Guests<'_>) -> Result<Vec<Panel>> {
    let client = guests.client;
    client.create(any_core("leaver", "mesh"))?;
    let (mut down, mut up) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        let Offline { ticks, .. } = ask_offline(client, 1)?;
        down.push(ticks);
        let (_, _, ticks) = client.core_online(1, None, false)?;
        up.push(ticks);
    }
    client.destroy("leaver")?;
    let points = |down: f64, up: f64| vec![(1.0, down), (2.0, up)];
    let series = vec![
        Series::new("atoll", points(median(down), median(up))),
        Series::new("Linux 6.1", points(LINUX[0], LINUX[1])),
    ];
    Ok(vec![Panel {
        title: TITLE.to_owned(),
        x: "direction (1 down, 2 up)",
        y: "ticks".to_owned(),
        label: guests.label,
        machine: guests.machine.clone(),
        series,
    }])
}

fn median(mut ticks: Vec<u64>) -> f64 {
    ticks.sort_unstable();
    ticks.get(ticks.len() / 2).map_or(0.0, |&ticks| ticks as f64)
}

fn judge(panels: &[Panel]) -> Vec<Verdict> {
    const DOWN: &str = "to remove a core takes a fraction of Linux's time";
    const UP: &str = "and so does to bring it back";
    let Some(panel) = panels.first() else { return Vec::new() };
    let of = |claim, x| {
        if panel.label != "emulated" {
            return Verdict::cannot(claim, "Linux's figures are of Bochs, and this is not".to_owned());
        }
        Verdict::at_least(
            claim,
            panel.at("Linux 6.1", x),
            2.0,
            panel.at("atoll", x),
            "ticks, Linux against Atoll",
        )
    };
    vec![of(DOWN, 1.0), of(UP, 2.0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::lab::result::Outcome::{self, CannotBeJudged, DoesNot, Holds};

    fn outcomes(label: &'static str, down: f64, up: f64) -> Vec<Outcome> {
        let two = |name: &str, down, up| Series::new(name, vec![(1.0, down), (2.0, up)]);
        let series = vec![two("atoll", down, up), two("Linux 6.1", LINUX[0], LINUX[1])];
        let panel = Panel { label, ..super::super::drawn(TITLE, "direction", series) };
        judge(&[panel]).into_iter().map(|verdict| verdict.outcome).collect()
    }

    #[test]
    fn judged_by_the_figures() {
        assert_eq!(outcomes("emulated", 200_000.0, 2_000_000.0), [Holds, Holds]);
        assert_eq!(outcomes("emulated", 50_000_000.0, 2_000_000.0), [DoesNot, Holds]);
        assert_eq!(outcomes("nested", 200_000.0, 2_000_000.0), [CannotBeJudged; 2]);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!([median(vec![3, 1, 2]), median(vec![])], [2.0, 0.0]);
    }
}
