//! Reads the shared vectors: cases of one file, each with a label for messages.

use std::fs;
use std::path::{Path, PathBuf};

use theory_core::json::{Value, parse};
use theory_core::{Detail, Error};

/// A folder of the shared vectors.
pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors").join(name)
}

/// Cases of the file, whatever their group.
pub fn cases(file: &str) -> Vec<(String, Value)> {
    let document = parse(&fs::read(folder(file)).unwrap()).unwrap();
    let groups = items(member(&document, "testGroups"));
    let tests = groups.iter().flat_map(|group| items(member(group, "tests")).to_vec());
    let label = |case: &Value| {
        let number = member(case, "tcId").as_int().unwrap();
        format!("{file} {number}: {}", text(case, "comment"))
    };
    let cases: Vec<_> = tests.map(|case| (label(&case), case)).collect();
    assert!(!cases.is_empty(), "{file} has no cases");
    cases
}

/// A member that a case must have.
pub fn member<'a>(case: &'a Value, name: &str) -> &'a Value {
    case.get(name).unwrap_or_else(|| panic!("no {name} in {case:?}"))
}

/// The text of a member.
pub fn text<'a>(case: &'a Value, name: &str) -> &'a str {
    member(case, name).as_str().unwrap_or_else(|| panic!("{name} is no text in {case:?}"))
}

/// The elements of an array.
pub fn items(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("no array: {value:?}"))
}

/// Whether the case is one that is accepted.
pub fn is_valid(case: &Value) -> bool {
    match text(case, "result") {
        "valid" => true,
        "invalid" => false,
        other => panic!("no result: {other}"),
    }
}

/// Holds an error to the code, the fragment of the message and the facts that the case names.
pub fn check_refusal(label: &str, case: &Value, error: &Error, facts: &[&str]) {
    assert_eq!(error.code.as_str(), text(case, "code"), "{label}: {error}");
    if let Some(fragment) = case.get("fragment").and_then(Value::as_str) {
        assert!(error.message.contains(fragment), "{label}: {error}");
    }
    for name in facts {
        let expected = match case.get(name) {
            None => continue,
            Some(Value::Int(number)) => Detail::Int(*number),
            Some(other) => Detail::from(other.as_str().unwrap()),
        };
        assert_eq!(error.fact(name), Some(&expected), "{label}: {name}");
    }
}
