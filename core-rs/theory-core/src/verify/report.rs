//! What a verification is asked, and what it answers.

use std::fmt;

use crate::laws::Law;

/// What the one who asks knows from elsewhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expectations {
    /// Seq and hash of the last event, held outside of the ledger.
    pub head: Option<(u64, [u8; 32])>,
    /// Where the export starts.
    pub start: Start,
    /// Whether zero events are sound.
    pub allow_empty: bool,
    /// Whether kinds, data and laws are judged too; that needs the first event.
    pub laws: bool,
}

/// Where an export starts.
#[derive(Debug, Clone, Copy, Default)]
pub enum Start {
    /// At seq 1.
    #[default]
    First,
    /// Behind an event with this hash, and this seq if that is known.
    After {
        /// Seq of the event before.
        seq: Option<u64>,
        /// Hash of the event before.
        hash: [u8; 32],
    },
}

/// Why a line is not sound; the first that applies, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Not one JSON text and a line feed.
    Syntax,
    /// Not canonical.
    Bytes,
    /// Not `event` and `hash`, or not the six members of an event and their types.
    Schema,
    /// Another plan than the lines before.
    Plan,
    /// Not the seq that follows.
    Gap,
    /// A time stamp before that of the line before.
    Order,
    /// The stated hash does not cover the hash before and the event.
    Hash,
    /// Not the expected head, or beyond it.
    Head,
    /// Of a kind that no event has.
    Kind,
    /// Data that has not the shape of its kind; its first such member, if the shape knows it.
    Data(Option<&'static str>),
    /// A law does not hold at this prefix.
    Law(Law),
}

impl Reason {
    /// The name of every reason, in order of precedence; the last three only where laws are judged.
    pub const NAMES: [&'static str; 11] = [
        "syntax", "bytes", "schema", "plan", "gap", "order", "hash", "head", "kind", "data", "law",
    ];

    /// The reason's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::Bytes => "bytes",
            Self::Schema => "schema",
            Self::Plan => "plan",
            Self::Gap => "gap",
            Self::Order => "order",
            Self::Hash => "hash",
            Self::Head => "head",
            Self::Kind => "kind",
            Self::Data(_) => "data",
            Self::Law(_) => "law",
        }
    }

    /// The law that does not hold.
    #[must_use]
    pub fn law(self) -> Option<Law> {
        if let Self::Law(law) = self { Some(law) } else { None }
    }

    /// The member of the data that has not its type.
    #[must_use]
    pub fn member(self) -> Option<&'static str> {
        if let Self::Data(member) = self { member } else { None }
    }
}

/// The first place where an export is not sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The seq that belongs to this line, whatever the line states; none when the export starts
    /// behind a hash of unknown seq and its first line cannot be read.
    pub seq: Option<u64>,
    /// The line, from 1; one more than there are when something is missing at the end.
    pub line: u64,
    /// Why.
    pub reason: Reason,
}

/// The answer of a verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Sound events, up to the fault.
    pub count: u64,
    /// Seq and hash of the last of them.
    pub head: Option<(u64, [u8; 32])>,
    /// Whether a head from outside was given and met.
    pub anchored: bool,
    /// Whether kinds, data and laws were judged.
    pub laws: bool,
    /// The first fault.
    pub fault: Option<Fault>,
    /// What its line states instead, where that says more than the reason: a seq, a kind.
    pub stated: Option<String>,
}

impl Report {
    /// The answer as a sentence; never "verified" without a head from outside.
    #[must_use]
    pub fn verdict(&self) -> String {
        let lawful = if self.laws { ", lawful" } else { "" };
        let events = if self.count == 1 { "1 event" } else { &format!("{} events", self.count) };
        match (&self.fault, self.head) {
            (Some(fault), _) => {
                let stated = self.stated.as_ref().map_or_else(String::new, |it| format!(" ({it})"));
                format!("broken at {fault}{stated}, after {events}")
            }
            (None, Some((seq, _))) if self.anchored => {
                format!("{events}, internally consistent{lawful}, anchored at seq {seq}")
            }
            (None, _) => format!("{events}, internally consistent{lawful}, not anchored"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seq {
            Some(seq) => write!(out, "seq {seq} (line {}): {}", self.line, self.reason),
            None => write!(out, "line {}: {}", self.line, self.reason),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Law(law) => write!(out, "law {law}"),
            Self::Data(Some(member)) => write!(out, "data (member {member})"),
            other => out.write_str(other.as_str()),
        }
    }
}
