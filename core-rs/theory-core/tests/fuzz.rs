//! Fuzz targets under proptest: arbitrary and nearly right bytes for every reader of the core.
//!
//! A target holds when nothing panics and what was accepted obeys the reader's law. The bytes are
//! noise, or texts of the shared vectors with a few edits. Run at length with
//! `PROPTEST_CASES=100000 cargo test --release --test fuzz --test laws`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panic")]

#[allow(dead_code, reason = "made for the tests of vectors")]
#[path = "cases/mod.rs"]
mod cases;
#[path = "cases/counts.rs"]
mod counts;

use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::Index;
use theory_core::chain::{Chain, Link, hash_one, read_stored};
use theory_core::envelope::{self, Expect};
use theory_core::frames::{Frame, Sender};
use theory_core::json::{Value, canonical, canonicalize_json};
use theory_core::path::{PlanAddress, WorldPath};
use theory_core::protocol::Connection;
use theory_core::selector::{Kind, Selector, check_writable};
use theory_core::template::expand_prefix;
use theory_core::verify::{Expectations, Report, Start, Verifier};

/// Texts of a member of the cases in a file; members that are objects count as their text.
fn seeds(file: &str, member: &str) -> Vec<Vec<u8>> {
    let found: Vec<_> = cases::cases(file)
        .iter()
        .filter_map(|(_, case)| match case.get(member)? {
            Value::Str(text) => Some(text.as_bytes().to_vec()),
            other => Some(canonical(other)),
        })
        .collect();
    assert!(found.len() > 5, "{file}: {member}");
    found
}

static JSON: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| seeds("json/text.json", "text"));
static PATHS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| seeds("path/canonical.json", "path"));
static EXPORTS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| seeds("chain/export.json", "export"));
static FRAMES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| seeds("frames/wire.json", "frame"));
static ENVELOPES: LazyLock<Vec<Vec<u8>>> =
    LazyLock::new(|| seeds("envelope/validate.json", "envelope"));
static EVENTS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let lines = EXPORTS.iter().flat_map(|export| export.split(|byte| *byte == b'\n'));
    let event = |line: &[u8]| theory_core::json::parse(line).ok()?.get("event").map(canonical);
    lines.filter_map(event).collect()
});

/// One edit of some bytes.
#[derive(Debug, Clone)]
enum Edit {
    Replace(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize),
}

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let at = |place: &Index, bytes: &[u8]| place.index(bytes.len() + 1);
        match self {
            Self::Replace(place, byte) if !bytes.is_empty() => {
                let place = place.index(bytes.len());
                bytes[place] = *byte;
            }
            Self::Insert(place, piece) => {
                let place = at(place, bytes);
                bytes.splice(place..place, piece.iter().copied());
            }
            Self::Remove(place, count) => {
                let place = at(place, bytes);
                bytes.drain(place..bytes.len().min(place + count));
            }
            Self::Repeat(place, count) => {
                let place = at(place, bytes);
                let piece = bytes[place..bytes.len().min(place + count)].to_vec();
                bytes.splice(place..place, piece);
            }
            Self::Replace(..) => {}
        }
    }
}

fn edit() -> impl Strategy<Value = Edit> {
    const PIECES: [&str; 18] = [
        "[", "]", "{", "}", ",", ":", "\"", "\\u", "\\ud800", "\\u0000", "e9", "1e400", "-", "%2e",
        "/", "%", "\u{feff}", "\n",
    ];
    let piece = prop_oneof![
        prop::sample::select(PIECES.as_slice()).prop_map(|piece| piece.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 1..5),
        any::<char>().prop_map(|one| one.to_string().into_bytes()),
    ];
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(place, byte)| Edit::Replace(place, byte)),
        (any::<Index>(), piece).prop_map(|(place, piece)| Edit::Insert(place, piece)),
        (any::<Index>(), 1_usize..40).prop_map(|(place, count)| Edit::Remove(place, count)),
        (any::<Index>(), 1_usize..40).prop_map(|(place, count)| Edit::Repeat(place, count)),
    ]
}

/// Noise, or a seed with up to three edits.
fn bytes(seeds: &'static LazyLock<Vec<Vec<u8>>>) -> impl Strategy<Value = Vec<u8>> {
    let edited = (any::<Index>(), prop::collection::vec(edit(), 0..4)).prop_map(|(seed, edits)| {
        let mut bytes = seed.get(seeds).clone();
        for edit in &edits {
            edit.apply(&mut bytes);
        }
        bytes
    });
    prop_oneof![1 => prop::collection::vec(any::<u8>(), 0..200), 4 => edited]
}

fn root() -> PlanAddress {
    PlanAddress::parse("/world/acme/p1").unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(counts::count(1024)))]

    #[test]
    fn parse(bytes in bytes(&JSON)) {
        match theory_core::json::parse(&bytes) {
            Ok(value) => {
                prop_assert!(theory_core::json::parse(&canonical(&value)).is_ok());
            }
            Err(error) => {
                prop_assert!(error.code.as_str().starts_with("ERR_JSON_"), "{}", error);
                prop_assert!(error.fact("offset").is_some());
            }
        }
    }

    #[test]
    fn canonicalise(bytes in bytes(&JSON)) {
        let once = canonicalize_json(&bytes);
        prop_assert_eq!(&once, &theory_core::json::parse(&bytes).map(|value| canonical(&value)));
        if let Ok(once) = once {
            prop_assert_eq!(canonicalize_json(&once).unwrap(), once);
        }
    }

    #[test]
    fn path(text in bytes(&PATHS), other in bytes(&PATHS)) {
        if let Ok(path) = WorldPath::parse_bytes(&text, Some(&root())) {
            prop_assert_eq!(&WorldPath::parse(&path.to_string(), None).unwrap(), &path);
            prop_assert_eq!(&WorldPath::parse(&path.uri(), None).unwrap(), &path);
            prop_assert_eq!(&WorldPath::parse(&path.relative(), Some(path.root())).unwrap(), &path);
            let kind = if path.is_prefix() { Kind::Prefix } else { Kind::Exact };
            let _ = check_writable(&Selector::new(kind, path.clone()).unwrap());
            if let Ok(joined) = path.join_bytes(&other) {
                prop_assert!(joined.starts_with(&path));
            }
        }
        if let (Ok(text), Ok(id)) = (std::str::from_utf8(&text), std::str::from_utf8(&other)) {
            let _ = expand_prefix(text, id, Some(&root()));
            let _ = expand_prefix(text, "x1", Some(&root()));
        }
    }

    #[test]
    fn frames(bytes in bytes(&FRAMES), side in any::<bool>()) {
        let (near, far) =
            if side { (Sender::Client, Sender::Server) } else { (Sender::Server, Sender::Client) };
        if let Ok(frame) = Frame::read(&bytes, far) {
            let text = frame.encode().unwrap();
            prop_assert!(Frame::read(&text, far).is_ok());
        }
        let mut protocol = Connection::new(near);
        let before = (protocol.phase(), protocol.next_seq());
        if protocol.receive(&bytes).is_err() {
            prop_assert_eq!((protocol.phase(), protocol.next_seq()), before);
        }
    }

    #[test]
    fn envelopes(bytes in bytes(&ENVELOPES)) {
        if let Ok(value) = theory_core::json::parse(&bytes) {
            if let Ok(envelope) = envelope::validate(value.clone(), &Expect::default()) {
                prop_assert_eq!(canonical(&envelope), canonical(&value));
            }
        }
    }

    #[test]
    fn chain(
        bytes in bytes(&EVENTS),
        prev in any::<Option<[u8; 32]>>(),
        seq in any::<Option<u64>>(),
    ) {
        if let Ok(event) = read_stored(&bytes) {
            let sealed = hash_one(prev, &event);
            let last = prev.map(|hash| Link { seq, hash, at: None });
            let mut chain = Chain::new(last, None);
            if let Ok(appended) = chain.append(std::slice::from_ref(&event)) {
                prop_assert_eq!(&appended[0].bytes, &bytes);
                prop_assert_eq!(Ok(appended[0].hash), sealed);
            }
        }
    }

    #[test]
    fn exports(
        bytes in bytes(&EXPORTS),
        cut in any::<Index>(),
        prev in any::<Option<([u8; 32], Option<u64>)>>(),
        head in any::<Option<(u64, [u8; 32])>>(),
    ) {
        let start = prev.map_or(Start::First, |(hash, seq)| Start::After { seq, hash });
        let expect = Expectations { head, start, ..Expectations::default() };
        let mut whole = Verifier::new(expect, Some(1)).unwrap();
        whole.feed(&bytes);
        let mut pieces = Verifier::new(expect, Some(1)).unwrap();
        let (first, second) = bytes.split_at(cut.index(bytes.len() + 1));
        let _ = pieces.feed(first) && pieces.feed(second);
        let report = whole.finish();
        prop_assert!(report.fault.is_some() || report.count > 0);
        prop_assert_eq!(pieces.finish(), report);
    }

    #[test]
    fn exports_under_laws(bytes in bytes(&EXPORTS), head in any::<Option<(u64, [u8; 32])>>()) {
        let report = |laws| {
            let expect = Expectations { head, laws, ..Expectations::default() };
            let mut verifier = Verifier::new(expect, Some(1)).unwrap();
            verifier.feed(&bytes);
            verifier.finish()
        };
        let (chain, lawful) = (report(false), report(true));
        // Laws only ever find a fault on an earlier line; where they find none, nothing differs.
        prop_assert!(lawful.count <= chain.count);
        let name = lawful.fault.map(|fault| fault.reason.as_str());
        let of_laws = matches!(name, Some("kind" | "data" | "law"));
        let same = Report { laws: false, ..lawful } == chain;
        prop_assert!(of_laws || same);
    }
}
