//! One error type for the whole command: what is wrong and where, and what the person can do about it.

use std::{fmt, io, path::Path};

/// What went wrong, where, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    what: String,
    remedy: String,
}

/// A result with that error.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error and its remedy. The remedy may be empty where there is nothing to advise.
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }

    /// What is wrong, where.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// What the person can do; empty where there is no advice.
    pub fn remedy(&self) -> &str {
        &self.remedy
    }

    /// The same error, told as part of something larger: `while` comes first.
    pub fn during(self, activity: impl fmt::Display) -> Self {
        Self { what: format!("{activity}: {}", self.what), ..self }
    }

    /// The same error, which ends by naming the log to read.
    pub fn with_log(self, log: &Path) -> Self {
        let log = log.display().to_string();
        if self.what.contains(&log) {
            return self;
        }
        Self { what: format!("{} (serial log: {})", self.what, log), ..self }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if !self.remedy.is_empty() {
            write!(f, "\n  remedy: {}", self.remedy)?;
        }
        Ok(())
    }
}

impl From<abi::control::wire::Refusal> for Error {
    fn from(refusal: abi::control::wire::Refusal) -> Self {
        Self::new(refusal.what, refusal.remedy)
    }
}

/// Names the file or program an I/O error is about.
pub trait At<T> {
    /// `activity` and `path` come before the error's own words.
    fn at(self, activity: &str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, activity: &str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|error| {
            let remedy = match error.kind() {
                io::ErrorKind::NotFound => "check that it exists, or see `atoll doctor` for what is missing",
                io::ErrorKind::PermissionDenied => "check who may read and write it",
                _ => "",
            };
            Error::new(format!("{activity} {}: {error}", path.as_ref().display()), remedy)
        })
    }
}
