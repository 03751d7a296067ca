//! Every case of the shared vectors, through the Rust functions.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panic")]

mod cases;
#[path = "cases/input.rs"]
mod input;

use cases::{cases, check_refusal, is_valid, items, member, text};
use input::{input, repeated};
use theory_core::json::{Value, canonical, canonicalize_json};
use theory_core::outputs::resolve_outputs;
use theory_core::path::{PlanAddress, WorldPath};
use theory_core::selector::{Kind, Selector, check_writable};
use theory_core::template::expand_prefix;
use theory_core::{Error, digest, number};

/// Compares an outcome with what the case expects, facts of the error included.
fn judge(label: &str, case: &Value, outcome: Result<Vec<u8>, Error>, expected: Option<Vec<u8>>) {
    match (is_valid(case), outcome) {
        (true, Ok(answer)) => {
            let (answer, expected) =
                (String::from_utf8(answer), String::from_utf8(expected.unwrap()));
            assert_eq!(answer, expected, "{label}");
        }
        (false, Err(error)) => {
            check_refusal(label, case, &error, &["offset", "segment", "index", "other"]);
        }
        (valid, outcome) => panic!("{label}: valid is {valid}, got {outcome:?}"),
    }
}

/// The bytes of a member, if the case has it.
fn bytes(case: &Value, name: &str) -> Option<Vec<u8>> {
    case.get(name).and_then(Value::as_str).map(|text| text.as_bytes().to_vec())
}

fn root(case: &Value) -> Option<Result<PlanAddress, Error>> {
    case.get("root").and_then(Value::as_str).map(PlanAddress::parse)
}

#[test]
fn json_text_has_one_canonical_form_or_a_code() {
    for (label, case) in cases("json/text.json") {
        let expected = case.get("canonical_repeat").map(repeated).or(bytes(&case, "canonical"));
        if let Some(expected) = &expected {
            assert_eq!(canonicalize_json(expected).as_ref(), Ok(expected), "{label}: fixed point");
        }
        judge(&label, &case, canonicalize_json(&input(&case)), expected);
    }
}

#[test]
fn doubles_have_their_published_text() {
    for (label, case) in cases("json/doubles.json") {
        let double = f64::from_bits(u64::from_str_radix(text(&case, "f64"), 16).unwrap());
        let outcome = number::float(double).map(|value| canonical(&value));
        judge(&label, &case, outcome, bytes(&case, "canonical"));
    }
}

#[test]
fn digests_are_the_published_ones() {
    for (label, case) in cases("digest/bytes.json") {
        let length = case.get("length").and_then(Value::as_int).unwrap().try_into().unwrap();
        let input: Vec<u8> = (0..=250).cycle().take(length).collect();
        assert_eq!(digest::digest(&input), text(&case, "digest"), "{label}");
        for threads in [None, Some(1), Some(2)] {
            let outcome = digest::digest_reader(&mut input.as_slice(), threads);
            assert_eq!(outcome.unwrap(), text(&case, "digest"), "{label}: {threads:?}");
        }
    }
}

#[test]
fn a_written_digest_is_read_back_or_refused() {
    for (label, case) in cases("digest/grammar.json") {
        let outcome = digest::read(text(&case, "text"));
        let outcome = outcome.map(|bytes| digest::written(&bytes).into_bytes());
        judge(&label, &case, outcome, bytes(&case, "text"));
    }
}

#[test]
fn paths_have_one_canonical_form_or_a_code() {
    for (label, case) in cases("path/canonical.json") {
        let parse = |text: &str| match root(&case).transpose() {
            Ok(root) => WorldPath::parse(text, root.as_ref()),
            Err(error) => Err(error),
        };
        let outcome = parse(text(&case, "path"));
        if let Ok(path) = &outcome {
            assert_eq!(WorldPath::parse(&path.to_string(), None).as_ref(), Ok(path), "{label}");
            assert_eq!(WorldPath::parse(&path.uri(), None).as_ref(), Ok(path), "{label}");
            let again = WorldPath::parse(&path.relative(), Some(path.root()));
            assert_eq!(again.as_ref(), Ok(path), "{label}");
        }
        judge(
            &label,
            &case,
            outcome.map(|path| path.to_string().into_bytes()),
            bytes(&case, "canonical"),
        );
    }
}

#[test]
fn joined_paths_stay_below_their_base() {
    for (label, case) in cases("path/join.json") {
        let base = WorldPath::parse(text(&case, "base"), None).unwrap();
        let outcome = base.join(text(&case, "rel"));
        if let Ok(path) = &outcome {
            assert!(path.starts_with(&base), "{label}");
        }
        judge(
            &label,
            &case,
            outcome.map(|path| path.to_string().into_bytes()),
            bytes(&case, "canonical"),
        );
    }
}

#[test]
fn write_prefixes_expand_once_or_are_refused() {
    for (label, case) in cases("path/template.json") {
        let root = root(&case).transpose().unwrap();
        let (template, id) = (text(&case, "template"), text(&case, "execution_id"));
        let outcome = expand_prefix(template, id, root.as_ref());
        judge(
            &label,
            &case,
            outcome.map(|path| path.to_string().into_bytes()),
            bytes(&case, "canonical"),
        );
    }
}

#[test]
fn outputs_of_one_write_never_stand_in_each_others_way() {
    let joined = |texts: Vec<String>| texts.join("\n").into_bytes();
    for (label, case) in cases("path/outputs.json") {
        let prefix = WorldPath::parse(text(&case, "prefix"), None).unwrap();
        let rels = items(member(&case, "rels")).iter().map(|rel| rel.as_str().unwrap().as_bytes());
        let outcome = resolve_outputs(&prefix, &rels.collect::<Vec<_>>());
        let outcome = outcome.map(|paths| joined(paths.iter().map(ToString::to_string).collect()));
        let expected = case.get("paths").map(|paths| {
            joined(items(paths).iter().map(|path| path.as_str().unwrap().to_owned()).collect())
        });
        judge(&label, &case, outcome, expected);
    }
}

fn selector(document: &Value) -> Result<Selector, Error> {
    let kind = Kind::parse(text(document, "kind"))?;
    Selector::new(kind, WorldPath::parse(text(document, "path"), None)?)
}

#[test]
fn selectors_overlap_by_segments() {
    for (label, case) in cases("selector/overlap.json") {
        let outcome = selector(case.get("a").unwrap());
        let Some(b) = case.get("b") else {
            judge(&label, &case, outcome.map(|_| Vec::new()), None);
            continue;
        };
        let (a, b) = (outcome.unwrap(), selector(b).unwrap());
        let expected = |name| case.get(name).and_then(Value::as_bool).unwrap();
        assert_eq!(a.overlaps(&b), expected("overlaps"), "{label}");
        assert_eq!(b.overlaps(&a), expected("overlaps"), "{label}, turned round");
        assert_eq!(a.contains(&b), expected("contains"), "{label}");
    }
}

#[test]
fn processors_write_only_where_they_may() {
    for (label, case) in cases("selector/writable.json") {
        let outcome = check_writable(&selector(case.get("selector").unwrap()).unwrap());
        judge(&label, &case, outcome.map(|()| Vec::new()), Some(Vec::new()));
    }
}
