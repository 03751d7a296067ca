//! One line of an export, judged on its own bytes and the hash that the line before it states.

use super::{EXPORT_LINE_BYTES, Reason};
use crate::digest;
use crate::event::{event_hash, place};
use crate::json::{Value, canonical, parse};
use crate::laws::{self, Fact};

/// Bytes before the event of a canonical line.
const OPENING: &[u8] = b"{\"event\":";
/// Bytes between the event and the hexadecimal digits of its hash.
const MIDDLE: &[u8] = b",\"hash\":\"b3:";
/// Bytes after the digits, the line feed included.
const CLOSING: &[u8] = b"\"}\n";
/// Hexadecimal digits of a hash.
const HEX_DIGITS: usize = 64;

/// A line that is well formed on its own.
#[derive(Debug)]
pub(super) struct Line {
    pub plan: String,
    pub seq: u64,
    pub at: String,
    /// The kind, where no event has it.
    pub stranger: Option<String>,
    pub hash: [u8; 32],
    /// Whether the stated hash covers the hash before and the event.
    pub hash_holds: bool,
    /// What the event says to the laws, where they are asked for.
    pub fact: Option<Result<Fact, Reason>>,
}

impl Line {
    /// Reads a line with its line feed, and with `laws` what its event says to them.
    pub fn read(bytes: &[u8], prev: Option<&[u8; 32]>, laws: bool) -> Result<Self, Reason> {
        let body = bytes.strip_suffix(b"\n").ok_or(Reason::Syntax)?;
        if body.len() > EXPORT_LINE_BYTES {
            return Err(Reason::Syntax);
        }
        let value = parse(body).map_err(|_| Reason::Syntax)?;
        if canonical(&value) != body {
            return Err(Reason::Bytes);
        }
        let (event, hash) = members(&value).ok_or(Reason::Schema)?;
        let place = place(event).map_err(|_| Reason::Schema)?;
        // The line is canonical and has these two members, so the event stands between them.
        let end = bytes.len() - MIDDLE.len() - HEX_DIGITS - CLOSING.len();
        let fact = laws.then(|| laws::read(event).map_err(Reason::from));
        let kind = || event.get("kind").and_then(Value::as_str).map(str::to_owned);
        let computed = event_hash(prev, &bytes[OPENING.len()..end]);
        Ok(Self {
            plan: place.plan.to_owned(),
            seq: place.seq,
            at: place.at.to_owned(),
            stranger: if matches!(fact, Some(Err(Reason::Kind))) { kind() } else { None },
            hash,
            hash_holds: computed == hash,
            fact,
        })
    }
}

impl From<laws::Misread> for Reason {
    fn from(misread: laws::Misread) -> Self {
        match misread {
            laws::Misread::Kind => Self::Kind,
            laws::Misread::Data(member) => Self::Data(member),
        }
    }
}

/// The event and the stated hash, if the line has these two members and no other.
fn members(line: &Value) -> Option<(&Value, [u8; 32])> {
    let [(first, event), (second, hash)] = line.as_object()? else {
        return None;
    };
    if first != "event" || second != "hash" {
        return None;
    }
    Some((event, digest::read(hash.as_str()?).ok()?))
}

/// The hash that a line states, read from its end; none when the line cannot be canonical.
pub(super) fn stated_hash(bytes: &[u8]) -> Option<[u8; 32]> {
    let body = bytes.strip_suffix(CLOSING)?;
    let start = body.len().checked_sub(digest::PREFIX.len() + HEX_DIGITS)?;
    digest::read(std::str::from_utf8(&body[start..]).ok()?).ok()
}
