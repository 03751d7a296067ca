//! The six members of a ledger event, the same for every kind (spec: ledger).

use crate::digest;
use crate::error::{Code, Error, Result};
use crate::ids::check_plan;
use crate::json::Value;
use crate::number::MAX_SAFE_INTEGER;

/// The one version of events; it fixes canonical form and hash.
pub const VERSION: &str = "theory.event.v1";

/// Bytes of a time stamp: `2026-11-21T04:25:00.123456Z`.
pub const AT_BYTES: usize = 27;

/// Longest kind in bytes.
const KIND_BYTES: usize = 64;

/// The members of an event that decide about its place in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// `/world/{tenant}/{plan}`.
    pub plan: &'a str,
    /// Position in the plan's ledger, from 1.
    pub seq: u64,
    /// Time stamp of 27 bytes; they sort as text.
    pub at: &'a str,
}

/// Reads the place of an event and holds all six members to their types.
///
/// # Errors
/// `ERR_INPUTS` with `detail.member` for a missing, additional or wrong member; `ERR_JSON_NUMBER`
/// for a number that is not an integer. Both carry `detail.reason` `schema`.
pub fn place(event: &Value) -> Result<Place<'_>> {
    let members = event.as_object().ok_or_else(|| refused("event"))?;
    if members.len() != 6 {
        return Err(refused("event"));
    }
    let text =
        |name: &'static str| event.get(name).and_then(Value::as_str).ok_or_else(|| refused(name));
    let check = |name: &'static str, holds: bool| if holds { Ok(()) } else { Err(refused(name)) };
    check("v", text("v")? == VERSION)?;
    let plan = text("plan")?;
    check_plan(plan).map_err(|_| refused("plan"))?;
    let seq = event.get("seq").and_then(Value::as_int).and_then(|seq| u64::try_from(seq).ok());
    let seq = seq.filter(|seq| *seq >= 1).ok_or_else(|| refused("seq"))?;
    let at = text("at")?;
    check("at", is_time(at))?;
    check("kind", is_kind(text("kind")?))?;
    let data = event.get("data").filter(|data| data.as_object().is_some());
    check_numbers(data.ok_or_else(|| refused("data"))?)?;
    Ok(Place { plan, seq, at })
}

/// The hash of an event: BLAKE3 of the previous hash (none before seq 1) and its canonical bytes.
#[must_use]
pub fn event_hash(prev: Option<&[u8; 32]>, canonical: &[u8]) -> [u8; 32] {
    let mut hasher = digest::Hasher::new();
    if let Some(prev) = prev {
        hasher.update(prev);
    }
    hasher.update(canonical);
    hasher.bytes()
}

/// Whether the text is the kind of an event: dotted lower-case words, at least two.
#[must_use]
pub fn is_kind(text: &str) -> bool {
    let word = |word: &str| {
        let later = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
        word.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase()) && word.bytes().all(later)
    };
    text.len() <= KIND_BYTES && text.contains('.') && text.split('.').all(word)
}

/// Whether the text is a time stamp of the calendar in UTC, with microseconds.
#[must_use]
pub fn is_time(text: &str) -> bool {
    const SHAPE: &[u8; AT_BYTES] = b"0000-00-00T00:00:00.000000Z";
    let bytes = text.as_bytes();
    let fits = |(byte, shape): (&u8, &u8)| {
        if *shape == b'0' { byte.is_ascii_digit() } else { byte == shape }
    };
    if bytes.len() != AT_BYTES || !bytes.iter().zip(SHAPE).all(fits) {
        return false;
    }
    let number = |from: usize, to: usize| {
        bytes[from..to].iter().fold(0_u16, |sum, digit| sum * 10 + u16::from(digit - b'0'))
    };
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + u16::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    year >= 1
        && (1..=days).contains(&day)
        && number(11, 13) < 24
        && number(14, 16) < 60
        && number(17, 19) < 60
}

/// Law: every number in an event is an integer within ±(2^53 - 1).
fn check_numbers(data: &Value) -> Result<()> {
    let mut open = vec![data];
    while let Some(value) = open.pop() {
        match value {
            Value::Float(_) => return Err(not_an_integer()),
            Value::Int(number) if number.unsigned_abs() > MAX_SAFE_INTEGER.unsigned_abs() => {
                return Err(not_an_integer());
            }
            Value::Array(items) => open.extend(items),
            Value::Object(members) => open.extend(members.iter().map(|(_, value)| value)),
            _ => {}
        }
    }
    Ok(())
}

fn not_an_integer() -> Error {
    Error::new(Code::JsonNumber, "numbers in events are integers within 2^53 - 1")
        .with("reason", "schema")
}

fn refused(member: &'static str) -> Error {
    Error::new(Code::Inputs, format!("invalid event: {member}"))
        .with("reason", "schema")
        .with("member", member)
}
