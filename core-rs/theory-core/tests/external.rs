//! Vectors from elsewhere, in the folder that `THEORY_EXTERNAL_VECTORS` names; off without it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panic")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use theory_core::json::{Value, canonical, canonicalize_json, parse};
use theory_core::unicode::nfc;
use theory_core::{digest, number};

fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("THEORY_EXTERNAL_VECTORS").map(PathBuf::from);
    if folder.is_none() {
        println!("skipped: THEORY_EXTERNAL_VECTORS is not set");
    }
    folder
}

fn unpacked(path: PathBuf) -> String {
    let output = Command::new("gzip").arg("-dc").arg(path).output().expect("gzip runs");
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn double_text(hex: &str) -> Option<String> {
    let value = number::float(f64::from_bits(u64::from_str_radix(hex, 16).unwrap())).ok()?;
    Some(String::from_utf8(canonical(&value)).unwrap())
}

#[test]
fn published_canonical_pairs_hold() {
    let Some(folder) = folder() else { return };
    for suite in ["cyberphone", "gowebpki"] {
        for entry in fs::read_dir(folder.join("jcs").join(suite).join("input")).unwrap() {
            let name = entry.unwrap().file_name();
            let read =
                |part| fs::read(folder.join("jcs").join(suite).join(part).join(&name)).unwrap();
            assert_eq!(canonicalize_json(&read("input")), Ok(read("output")), "{suite} {name:?}");
        }
    }
    let samples = parse(&fs::read(folder.join("jcs/rfc-samples.json")).unwrap()).unwrap();
    for sample in samples.as_array().unwrap() {
        let text = |name| sample.get(name).and_then(Value::as_str).unwrap_or_default();
        if !text("canonical_hex").is_empty() {
            let expected = unhex(text("canonical_hex"));
            assert_eq!(canonicalize_json(text("input").as_bytes()), Ok(expected), "{}", text("id"));
        }
    }
}

#[test]
fn published_texts_of_doubles_hold() {
    let Some(folder) = folder() else { return };
    for line in fs::read_to_string(folder.join("jcs/appendix-b.csv")).unwrap().lines().skip(1) {
        let fields: Vec<&str> = line.splitn(3, ',').collect();
        let expected = (fields[1] != "ERROR").then(|| fields[1].to_owned());
        assert_eq!(double_text(fields[0]), expected, "{line}");
    }
    let text = unpacked(folder.join("jcs/numbers-es6-first-100k.csv.gz"));
    let mut count = 0;
    for line in text.lines() {
        let (hex, expected) = line.split_once(',').unwrap();
        assert_eq!(double_text(hex).as_deref(), Some(expected), "{line}");
        count += 1;
    }
    assert_eq!(count, 100_000);
}

#[test]
fn published_decimal_texts_are_read_to_the_right_double() {
    let Some(folder) = folder() else { return };
    for line in unpacked(folder.join("json-parsing/number-text.csv.gz")).lines().skip(1) {
        let fields: Vec<&str> = line.splitn(4, ',').collect();
        let (text, expected) = (fields[0], fields[2]);
        let integer = !text.contains(['.', 'e', 'E']);
        let safe = text.parse::<i64>().is_ok_and(|number| number.unsigned_abs() < 1 << 53);
        let outcome = canonicalize_json(text.as_bytes());
        if expected == "REJECT" || (integer && !safe && text != expected) {
            assert_eq!(outcome.unwrap_err().code.as_str(), "ERR_JSON_NUMBER", "{line}");
        } else {
            assert_eq!(String::from_utf8(outcome.unwrap()).unwrap(), expected, "{line}");
        }
    }
}

#[test]
fn the_json_test_suite_is_accepted_and_refused_as_it_must_be() {
    let Some(folder) = folder() else { return };
    let text = fs::read_to_string(folder.join("json-parsing/jsontestsuite.jsonl")).unwrap();
    let mut count = 0;
    for line in text.lines() {
        let case = parse(line.as_bytes()).unwrap();
        let field = |name| case.get(name).and_then(Value::as_str).unwrap_or_default();
        let input = match case.get("repeat") {
            None => unhex(field("hex")),
            Some(recipe) => {
                let part =
                    |name| unhex(recipe.get(name).and_then(Value::as_str).unwrap_or_default());
                let times = recipe.get("count").and_then(Value::as_int).unwrap();
                let body = part("unit_hex").repeat(times.try_into().unwrap());
                [part("prefix_hex"), body, part("suffix_hex")].concat()
            }
        };
        let outcome = canonicalize_json(&input);
        match field("class") {
            // I-JSON refuses three kinds of text that RFC 8259 lets through.
            "must_accept" => {
                let strict = ["ERR_JSON_DUPLICATE", "ERR_JSON_UNICODE", "ERR_JSON_NUMBER"];
                let refused = outcome.err().map(|error| error.code.as_str());
                assert!(refused.is_none_or(|code| strict.contains(&code)), "{line}: {refused:?}");
            }
            "must_reject" => assert!(outcome.is_err(), "{line}"),
            _ => {
                if let Ok(bytes) = outcome {
                    assert_eq!(canonicalize_json(&bytes), Ok(bytes), "{line}");
                }
            }
        }
        count += 1;
    }
    assert_eq!(count, 340);
}

#[test]
fn published_blake3_hashes_hold() {
    let Some(folder) = folder() else { return };
    let document = parse(&fs::read(folder.join("blake3/test_vectors.json")).unwrap()).unwrap();
    for case in document.get("cases").and_then(Value::as_array).unwrap() {
        let length = case.get("input_len").and_then(Value::as_int).unwrap();
        let input: Vec<u8> = (0..=250).cycle().take(length.try_into().unwrap()).collect();
        let hash = case.get("hash").and_then(Value::as_str).unwrap();
        assert_eq!(digest::digest(&input), format!("b3:{}", &hash[..64]), "{length}");
    }
}

#[test]
fn the_normalisation_test_holds() {
    let Some(folder) = folder() else { return };
    let text = unpacked(folder.join("unicode-nfc/NormalizationTest-15.0.0.txt.gz"));
    let mut count = 0;
    for line in text.lines().filter(|line| !line.starts_with(['#', '@'])) {
        let columns: Vec<String> = line
            .split(';')
            .take(5)
            .map(|field| {
                let point = |hex| char::from_u32(u32::from_str_radix(hex, 16).unwrap()).unwrap();
                field.split(' ').map(point).collect()
            })
            .collect();
        for (column, expected) in [(0, 1), (1, 1), (2, 1), (3, 3), (4, 3)] {
            assert_eq!(nfc(&columns[column]), columns[expected], "{line}");
        }
        count += 1;
    }
    assert!(count > 18_000, "{count}");
}
