//! Every case of the shared vectors, through the Rust functions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panic")]

use std::fs;
use std::path::PathBuf;

use theory_core::json::{Value, canonical, canonicalize_json, parse};
use theory_core::limits::PATH_BYTES;
use theory_core::outputs::resolve_outputs;
use theory_core::path::{PlanAddress, WorldPath};
use theory_core::selector::{Kind, Selector, check_writable};
use theory_core::template::expand_prefix;
use theory_core::{Detail, Error, digest, number};

/// Cases of one file, each with a label for messages.
fn cases(file: &str) -> Vec<(String, Value)> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../vectors").join(file);
    let document = parse(&fs::read(path).unwrap()).unwrap();
    let groups = document.get("testGroups").and_then(Value::as_array).unwrap();
    let tests =
        groups.iter().flat_map(|group| group.get("tests").and_then(Value::as_array).unwrap());
    let label = |case: &Value| {
        let number = case.get("tcId").and_then(Value::as_int).unwrap();
        format!("{file} {number}: {}", text(case, "comment"))
    };
    let cases: Vec<_> = tests.map(|case| (label(case), case.clone())).collect();
    assert!(!cases.is_empty(), "{file} has no cases");
    cases
}

fn text<'a>(case: &'a Value, member: &str) -> &'a str {
    case.get(member).and_then(Value::as_str).unwrap_or_else(|| panic!("no {member} in {case:?}"))
}

fn repeated(pieces: &Value) -> Vec<u8> {
    let pieces = pieces.as_array().unwrap().iter().map(|piece| piece.as_array().unwrap());
    let repeat = |piece: &[Value]| {
        piece[0].as_str().unwrap().repeat(piece[1].as_int().unwrap().try_into().unwrap())
    };
    pieces.map(repeat).collect::<String>().into_bytes()
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Compares an outcome with what the case expects, facts of the error included.
fn judge(label: &str, case: &Value, outcome: Result<Vec<u8>, Error>, expected: Option<Vec<u8>>) {
    match (text(case, "result"), outcome) {
        ("valid", Ok(answer)) => {
            let (answer, expected) =
                (String::from_utf8(answer), String::from_utf8(expected.unwrap()));
            assert_eq!(answer, expected, "{label}");
        }
        ("invalid", Err(error)) => {
            assert_eq!(error.code.as_str(), text(case, "code"), "{label}");
            for fact in ["offset", "segment", "index", "other"] {
                if let Some(number) = case.get(fact).and_then(Value::as_int) {
                    assert_eq!(error.fact(fact), Some(&Detail::Int(number)), "{label}: {fact}");
                }
            }
        }
        (result, outcome) => panic!("{label}: expected {result}, got {outcome:?}"),
    }
}

fn member(case: &Value, name: &str) -> Option<Vec<u8>> {
    case.get(name).and_then(Value::as_str).map(|text| text.as_bytes().to_vec())
}

fn root(case: &Value) -> Option<Result<PlanAddress, Error>> {
    case.get("root").and_then(Value::as_str).map(PlanAddress::parse)
}

#[test]
fn json_text_has_one_canonical_form_or_a_code() {
    for (label, case) in cases("json/text.json") {
        let input = if let Some(pieces) = case.get("repeat") {
            repeated(pieces)
        } else if let Some(hex) = case.get("hex").and_then(Value::as_str) {
            unhex(hex)
        } else {
            text(&case, "text").as_bytes().to_vec()
        };
        let expected = case.get("canonical_repeat").map(repeated).or(member(&case, "canonical"));
        if let Some(expected) = &expected {
            assert_eq!(canonicalize_json(expected).as_ref(), Ok(expected), "{label}: fixed point");
        }
        judge(&label, &case, canonicalize_json(&input), expected);
    }
}

#[test]
fn doubles_have_their_published_text() {
    for (label, case) in cases("json/doubles.json") {
        let double = f64::from_bits(u64::from_str_radix(text(&case, "f64"), 16).unwrap());
        let outcome = number::float(double).map(|value| canonical(&value));
        judge(&label, &case, outcome, member(&case, "canonical"));
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
        judge(&label, &case, outcome, member(&case, "text"));
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
            if path.uri().len() <= PATH_BYTES {
                assert_eq!(WorldPath::parse(&path.uri(), None).as_ref(), Ok(path), "{label}");
            }
            let again = WorldPath::parse(&path.relative(), Some(path.root()));
            assert_eq!(again.as_ref(), Ok(path), "{label}");
        }
        judge(
            &label,
            &case,
            outcome.map(|path| path.to_string().into_bytes()),
            member(&case, "canonical"),
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
            member(&case, "canonical"),
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
            member(&case, "canonical"),
        );
    }
}

#[test]
fn outputs_of_one_write_never_stand_in_each_others_way() {
    let joined = |texts: Vec<String>| texts.join("\n").into_bytes();
    for (label, case) in cases("path/outputs.json") {
        let prefix = WorldPath::parse(text(&case, "prefix"), None).unwrap();
        let list = |name| case.get(name).and_then(Value::as_array);
        let rels = list("rels").unwrap().iter().map(|rel| rel.as_str().unwrap().as_bytes());
        let outcome = resolve_outputs(&prefix, &rels.collect::<Vec<_>>());
        let outcome = outcome.map(|paths| joined(paths.iter().map(ToString::to_string).collect()));
        let expected = list("paths").map(|paths| {
            joined(paths.iter().map(|path| path.as_str().unwrap().to_owned()).collect())
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
