//! The one error type of the core: a stable code, a fixed sentence, and facts for machines.

use std::borrow::Cow;
use std::fmt;

pub use crate::catalogue::Code;

/// What a refused input answers: a stable code, a message from a fixed set, and validated facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Stable code; the catalogue in [`crate::catalogue`] gives its status and meaning.
    pub code: Code,
    /// Human sentence; never echoes raw input.
    pub message: Cow<'static, str>,
    /// Facts for machines: offsets, indices, limits. Never raw input.
    pub detail: Vec<(&'static str, Detail)>,
}

/// A fact inside [`Error::detail`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detail {
    /// A count, offset or limit.
    Int(i64),
    /// A name out of a fixed set, or validated text.
    Text(String),
}

/// Result of every fallible function of the core.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error without facts.
    #[must_use]
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), detail: Vec::new() }
    }

    /// The same error with one more fact; a fact of that name that is already there stays.
    #[must_use]
    pub fn with(mut self, key: &'static str, fact: impl Into<Detail>) -> Self {
        if self.fact(key).is_none() {
            self.detail.push((key, fact.into()));
        }
        self
    }

    /// The fact of that name.
    #[must_use]
    pub fn fact(&self, key: &str) -> Option<&Detail> {
        self.detail.iter().find(|(name, _)| *name == key).map(|(_, fact)| fact)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Detail {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Detail::Int(number) => write!(out, "{number}"),
            Detail::Text(text) => out.write_str(text),
        }
    }
}

impl From<i64> for Detail {
    fn from(number: i64) -> Self {
        Detail::Int(number)
    }
}

impl From<u64> for Detail {
    fn from(number: u64) -> Self {
        Detail::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Detail {
    fn from(number: usize) -> Self {
        Detail::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<u16> for Detail {
    fn from(number: u16) -> Self {
        Detail::Int(number.into())
    }
}

impl From<&str> for Detail {
    fn from(text: &str) -> Self {
        Detail::Text(text.to_owned())
    }
}

impl From<String> for Detail {
    fn from(text: String) -> Self {
        Detail::Text(text)
    }
}
