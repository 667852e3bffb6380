//! The first serial port's log, and the end of a run as its last line tells it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use abi::exit_code::{EXIT_LINE, ExitCode};

use crate::error::Error;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The number.
    pub code: u8,
    /// Its name, as the machine said it.
    pub name: String,
    /// The line before, which tells the reason of a failure; the remedy, which may stand between them, is known.
    pub reason: String,
}

impl Outcome {
    /// The code, where this toolstack knows it.
    pub fn exit_code(&self) -> Option<ExitCode> {
        ExitCode::from_u8(self.code)
    }

    /// Whether all was well.
    pub fn is_success(&self) -> bool {
        self.exit_code() == Some(ExitCode::Success)
    }

    /// The run's end, told as an error.
    pub fn as_error(&self) -> Error {
        let remedy = self.exit_code().map_or("read the serial log", ExitCode::remedy);
        let reason = if self.reason.is_empty() { String::new() } else { format!(": {}", self.reason) };
        Error::new(format!("the machine stopped, {} ({:#x}){reason}", self.name, self.code), remedy)
    }
}

/// The outcome in one line, if it is an exit line. A guest's own output is never one: it has the guest's name before.
pub fn parse_exit_line(line: &str) -> Option<(u8, &str)> {
    let mut words = line.trim_end().strip_prefix(EXIT_LINE)?.split(' ');
    let (number, name) = (words.next()?, words.next()?);
    let code = match number.strip_prefix("0x") {
        Some(hexadecimal) => u8::from_str_radix(hexadecimal, 16).ok()?,
        None => number.parse().ok()?,
    };
    (!name.is_empty() && words.next().is_none()).then_some((code, name))
}

/// A serial log.
#[derive(Clone, Debug)]
pub struct SerialLog {
    path: PathBuf,
}

impl SerialLog {
    /// The log in this file.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of it so far, carriage returns removed.
    pub fn text(&self) -> String {
        let bytes = fs::read(&self.path).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\r', "")
    }

    /// Its last line that says anything.
    pub fn last_line(&self) -> String {
        let text = self.text();
        text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().to_owned()
    }

    /// Whether a line contains `words`.
    pub fn says(&self, words: &str) -> bool {
        self.text().lines().any(|line| line.contains(words))
    }

    /// How the run ended, if it has.
    pub fn outcome(&self) -> Option<Outcome> {
        let text = self.text();
        let lines: Vec<&str> = text.lines().collect();
        let (at, (code, name)) =
            lines.iter().enumerate().rev().find_map(|(at, line)| Some((at, parse_exit_line(line)?)))?;
        let before = lines.get(..at).unwrap_or_default().iter().rev();
        let reason = before.map(|line| line.trim()).find(|line| !line.starts_with("atoll: remedy:"));
        let reason = reason.map(|line| line.strip_prefix("atoll: ").unwrap_or(line)).unwrap_or_default();
        Some(Outcome { code, name: name.to_owned(), reason: reason.to_owned() })
    }

    /// Looks for the outcome only when there is something new.
    pub fn watch(&self) -> Watch {
        Watch { log: self.clone(), seen: 0 }
    }
}

/// See [`SerialLog::watch`].
#[derive(Debug)]
pub struct Watch {
    log: SerialLog,
    seen: u64,
}

impl Watch {
    /// How the run ended, if it has.
    pub fn outcome(&mut self) -> Option<Outcome> {
        let length = fs::metadata(self.log.path()).map_or(0, |data| data.len());
        if length == self.seen {
            return None;
        }
        self.seen = length;
        self.log.outcome()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_lines() {
        assert_eq!(parse_exit_line("atoll: exit 16 success\r"), Some((16, "success")));
        assert_eq!(parse_exit_line("atoll: exit 0x30 no-vmx"), Some((0x30, "no-vmx")));
        for other in
            ["atoll: exit 16", "atoll: exit many words", "[web] atoll: exit 16 success", "atoll: exit 300 x"]
        {
            assert_eq!(parse_exit_line(other), None, "{other}");
        }
    }

    #[test]
    fn the_outcome_carries_its_reason() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(
            file.path(),
            "boot\r\natoll: this processor has no VMX\r\natoll: remedy: x\r\natoll: exit 48 no-vmx\r\n",
        )
        .unwrap();
        let outcome = SerialLog::new(file.path().to_owned()).outcome().unwrap();
        assert_eq!(outcome.exit_code(), Some(ExitCode::NoVmx));
        let error = outcome.as_error();
        assert!(error.what().ends_with(": this processor has no VMX"), "{error}");
        assert_eq!(error.remedy(), ExitCode::NoVmx.remedy());
    }
}
