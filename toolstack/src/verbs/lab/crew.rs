//! Labs within one guest of a virtual machine, whose virtual CPUs share memory: the image `labs`.

use abi::control::wire::GuestConfig;

use super::vm;
use crate::{
    config::guest,
    control::Client,
    error::{Error, Result},
};

const NAME: &str = "labs";

/// What the guest printed: a name, and numbers.
#[derive(Debug, PartialEq, Eq)]
pub struct Lines(Vec<(String, Vec<u64>)>);

/// Has a guest with a virtual CPU on each of these cores run a lab. It is gone at the end.
pub fn run(client: &Client, lab: &str, cores: Vec<u32>) -> Result<Lines> {
    let (vcpus, first) = (cores.len() as u32, cores.first().copied().unwrap_or(1));
    let command_line = format!("lab={lab} cores={vcpus}");
    client.create(GuestConfig { vcpus, cores, command_line, ..guest(NAME, NAME, first) })?;
    let printed = vm::printed_until(client, NAME, "labs: done")?;
    client.destroy(NAME)?;
    parsed(&printed)
}

fn parsed(printed: &str) -> Result<Lines> {
    let said = printed.lines().filter_map(|line| line.trim().strip_prefix("labs: "));
    let lines = said.take_while(|line| *line != "done").map(|line| {
        let (name, numbers) = line.split_once(' ')?;
        let numbers = numbers.split(' ').map(|number| number.parse().ok()).collect::<Option<_>>()?;
        Some((name.to_owned(), numbers))
    });
    let lines: Option<Vec<_>> = lines.collect();
    lines.map(Lines).ok_or_else(|| unclear(printed))
}

impl Lines {
    /// The numbers of each line of this name.
    pub fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u64]> {
        self.0.iter().filter(move |line| line.0 == name).map(|line| &line.1[..])
    }

    /// What one of a number of things took, where a line tells the number and the ticks.
    pub fn ticks_of_one(&self, name: &str) -> Result<f64> {
        match self.of(name).next() {
            Some(&[count, ticks]) if count > 0 => Ok(ticks as f64 / count as f64),
            other => Err(unclear(&format!("{name}: {other:?}"))),
        }
    }
}

fn unclear(said: &str) -> Error {
    Error::new(format!("the labs' guest said `{}`", said.trim()), "boot images of this version")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_names_and_numbers() {
        let lines =
            parsed("hello\nlabs: latency 10 4000\nlabs: mcs 200 7\nlabs: mcs 200 3 4\nlabs: done\n").unwrap();
        assert_eq!(lines.ticks_of_one("latency").unwrap(), 400.0);
        assert_eq!(lines.of("mcs").collect::<Vec<_>>(), [&[200, 7][..], &[200, 3, 4]]);
        assert!(lines.ticks_of_one("stream").is_err());
        assert!(parsed("labs: the virtual CPUs do not start: EINVAL\nlabs: done\n").is_err());
    }
}
