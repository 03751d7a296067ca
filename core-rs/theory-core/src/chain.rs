//! The chain: events of one plan in, the bytes to store and their hashes out (spec: ledger).

use crate::error::{Code, Error, Result};
use crate::event::{self, Place};
use crate::json::{Value, canonical, parse};
use crate::limits::{JSON_DEPTH, JSON_IN_TRUTH_BYTES};

/// Where a chain goes on: the last event that it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its seq; none when only the hash is known.
    pub seq: Option<u64>,
    /// Its hash.
    pub hash: [u8; 32],
    /// Its time stamp; none when the next event's is not to be compared.
    pub at: Option<String>,
}

/// An event as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Canonical bytes; exactly these were hashed.
    pub bytes: Vec<u8>,
    /// Hash over the previous hash and the bytes.
    pub hash: [u8; 32],
}

/// The growing end of one plan's ledger.
///
/// Law: seq starts at 1 and has no gaps, `at` never decreases, the plan never changes, and each
/// hash covers the one before it.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    plan: Option<String>,
    last: Option<Link>,
}

impl Chain {
    /// A chain that goes on after `last`, or starts; `plan` binds it before its first event does.
    #[must_use]
    pub fn new(last: Option<Link>, plan: Option<String>) -> Self {
        Self { plan, last }
    }

    /// The last event, if the chain has one.
    #[must_use]
    pub fn last(&self) -> Option<&Link> {
        self.last.as_ref()
    }

    /// The plan, once it is known.
    #[must_use]
    pub fn plan(&self) -> Option<&str> {
        self.plan.as_deref()
    }

    /// Appends events in order, all or none.
    ///
    /// # Errors
    /// `ERR_INPUTS` and `ERR_JSON_NUMBER` with `detail.reason` (`schema`, `plan`, `gap`, `order`),
    /// `ERR_JSON_DEPTH` and `ERR_TOO_LARGE`; all with `detail.index`, the event's place in the
    /// list.
    pub fn append(&mut self, events: &[Value]) -> Result<Vec<Sealed>> {
        let mut grown = self.clone();
        let mut sealed = Vec::with_capacity(events.len());
        for (index, event) in events.iter().enumerate() {
            sealed.push(grown.seal(event).map_err(|error| error.with("index", index))?);
        }
        *self = grown;
        Ok(sealed)
    }

    fn seal(&mut self, event: &Value) -> Result<Sealed> {
        let place = event::place(event)?;
        self.check(&place)?;
        let bytes = bounded(event)?;
        let hash = event::event_hash(self.last.as_ref().map(|last| &last.hash), &bytes);
        if self.plan.is_none() {
            self.plan = Some(place.plan.to_owned());
        }
        let mut at = self.last.take().and_then(|last| last.at).unwrap_or_default();
        at.clear();
        at.push_str(place.at);
        self.last = Some(Link { seq: Some(place.seq), hash, at: Some(at) });
        Ok(Sealed { bytes, hash })
    }

    fn check(&self, place: &Place<'_>) -> Result<()> {
        if self.plan.as_deref().is_some_and(|plan| plan != place.plan) {
            return Err(refused("plan", "event belongs to another plan"));
        }
        let follows = match &self.last {
            None => place.seq == 1,
            Some(Link { seq: Some(seq), .. }) => place.seq.checked_sub(1) == Some(*seq),
            Some(Link { seq: None, .. }) => place.seq > 1,
        };
        if !follows {
            return Err(refused("gap", "seq does not follow the last one"));
        }
        match self.last.as_ref().and_then(|last| last.at.as_deref()) {
            Some(at) if place.at < at => Err(refused("order", "time stamp before the last one")),
            _ => Ok(()),
        }
    }
}

/// Hash of one event, given as canonical bytes or as any JSON value of it.
///
/// # Errors
/// Those of [`Chain::append`] for one event that follows a hash (none before seq 1).
pub fn hash_one(prev: Option<[u8; 32]>, event: &Value) -> Result<[u8; 32]> {
    let last = prev.map(|hash| Link { seq: None, hash, at: None });
    Chain::new(last, None).seal(event).map(|sealed| sealed.hash)
}

/// The value of an event's stored bytes.
///
/// # Errors
/// The `ERR_JSON_*` codes; `ERR_INPUTS` with `detail.reason` `bytes` if they are not canonical.
pub fn read_stored(bytes: &[u8]) -> Result<Value> {
    let event = parse(bytes)?;
    if canonical(&event) == bytes {
        return Ok(event);
    }
    Err(refused("bytes", "bytes of the event are not canonical"))
}

/// Canonical bytes of an event that an export line can still carry.
fn bounded(event: &Value) -> Result<Vec<u8>> {
    // The line of an export wraps the event in one more object.
    if depth(event) >= JSON_DEPTH {
        return Err(Error::new(Code::JsonDepth, "nesting too deep for an event"));
    }
    let bytes = canonical(event);
    if bytes.len() > JSON_IN_TRUTH_BYTES {
        let message = "event larger than 256 KiB; put large bytes into an artifact";
        return Err(Error::new(Code::TooLarge, message).with("limit", JSON_IN_TRUTH_BYTES));
    }
    Ok(bytes)
}

/// Containers around the innermost value.
fn depth(value: &Value) -> usize {
    let mut deepest = 0;
    let mut open = vec![(value, 0)];
    while let Some((value, around)) = open.pop() {
        match value {
            Value::Array(items) => {
                deepest = deepest.max(around + 1);
                open.extend(items.iter().map(|item| (item, around + 1)));
            }
            Value::Object(members) => {
                deepest = deepest.max(around + 1);
                open.extend(members.iter().map(|(_, item)| (item, around + 1)));
            }
            _ => {}
        }
    }
    deepest
}

fn refused(reason: &'static str, message: &'static str) -> Error {
    Error::new(Code::Inputs, message).with("reason", reason)
}
