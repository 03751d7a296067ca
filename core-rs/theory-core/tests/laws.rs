//! Laws of canonical JSON and of WorldPaths, on generated input.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panic")]

#[path = "cases/counts.rs"]
mod cases;

use proptest::prelude::*;
use proptest::sample::Index;
use theory_core::json::{Builder, Value, canonical, canonicalize_json, compare_names, parse};
use theory_core::number::{MAX_SAFE_INTEGER, float};
use theory_core::outputs::check_outputs;
use theory_core::path::{PlanAddress, WorldPath};
use theory_core::unicode::has_noncharacter;

fn text() -> impl Strategy<Value = String> {
    any::<String>().prop_filter("a noncharacter", |text| !has_noncharacter(text))
}

fn value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-MAX_SAFE_INTEGER..=MAX_SAFE_INTEGER).prop_map(Value::Int),
        any::<u64>().prop_map(f64::from_bits).prop_filter_map("no text", |it| float(it).ok()),
        text().prop_map(Value::Str),
    ];
    scalar.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::btree_map(text(), inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Text of JSON with names that repeat, in any order, spelled in several ways; objects are longer
/// or shorter than what moves at once.
fn document() -> impl Strategy<Value = String> {
    let string = prop_oneof![
        8 => "[a-c]{0,2}",
        4 => "(a|b|\\\\u0061|\\\\\"|\\\\\\\\|\\\\n|\\\\b|\\\\u001[ef]|\\\\u00e9|é|!|\u{7f}){0,3}",
        2 => "(\u{e000}|\u{fb33}|\u{1f600}|\\\\ud83d\\\\ude00|\u{d7ff}){0,2}",
        1 => (0_usize..3).prop_map(|times| "x".repeat(times * 5_000)),
    ];
    let quoted = string.prop_map(|text| format!("\"{text}\"")).boxed();
    let scalar = prop_oneof![
        6 => prop::sample::select(vec!["0", "-0", "1e1", "0.5", "true", "null"])
            .prop_map(str::to_owned),
        6 => quoted.clone(),
        1 => prop::sample::select(vec!["1e999", "\"\u{ffff}\"", "tru", "9007199254740993"])
            .prop_map(str::to_owned),
    ];
    scalar.prop_recursive(5, 60, 8, move |inner| {
        let member = (quoted.clone(), inner.clone());
        let member = member.prop_map(|(name, value)| format!("{name}:{value}"));
        prop_oneof![
            prop::collection::vec(inner, 0..6).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec(member, 0..8).prop_map(|list| format!("{{{}}}", list.join(", "))),
        ]
    })
}

/// Text that looks like a path more often than not.
fn pathlike() -> impl Strategy<Value = String> {
    let segment = prop_oneof![
        "[a-zA-Z0-9._ -]{1,8}",
        "(%[0-9a-fA-F]{2}){1,4}",
        "\\PC{1,4}",
        "[\\u{300}-\\u{370}\\u{c0}-\\u{250}\\u{1e00}-\\u{1fff}\\u{1100}-\\u{11ff}]{1,6}",
        Just("..".to_owned()),
        any::<String>(),
    ];
    let head = prop_oneof![
        Just("/world/acme/p1/artifacts".to_owned()),
        Just("world://acme/p1/streams".to_owned()),
        Just("/artifacts".to_owned()),
        Just(String::new()),
    ];
    (head, prop::collection::vec(segment, 0..4), any::<bool>()).prop_map(|(head, rest, prefix)| {
        let slash = if prefix { "/" } else { "" };
        let path = [head].into_iter().chain(rest).collect::<Vec<_>>().join("/");
        path + slash
    })
}

/// Law: every text of a canonical value is canonical, and reads back as an equal value.
fn holds_for(text: &[u8]) {
    if let Ok(once) = canonicalize_json(text) {
        assert_eq!(canonicalize_json(&once).unwrap(), once);
        assert_eq!(canonical(&parse(text).unwrap()), once);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases::count(512)))]

    #[test]
    fn canonical_text_is_a_fixed_point(value in value()) {
        let bytes = canonical(&value);
        prop_assert_eq!(canonicalize_json(&bytes).unwrap(), bytes.clone());
        prop_assert_eq!(canonical(&parse(&bytes).unwrap()), bytes);
    }

    #[test]
    fn the_text_door_answers_as_the_tree_does(text in document(), cut in any::<Index>()) {
        let cut = cut.index(text.len() + 1);
        for text in [text.as_bytes(), &text.as_bytes()[..cut]] {
            let tree = parse(text).map(|value| canonical(&value));
            prop_assert_eq!(canonicalize_json(text), tree);
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        holds_for(&bytes);
    }

    #[test]
    fn no_json_like_text_makes_the_reader_panic(
        text in "[\\[\\]{}:,\" 0-9eE.+\\-truefalsn\\\\ud8]{0,40}"
    ) {
        holds_for(text.as_bytes());
    }

    #[test]
    fn an_accepted_integer_literal_keeps_its_digits(number in any::<i128>(), shift in 0_u32..110) {
        let literal = (number >> shift).to_string();
        if let Ok(bytes) = canonicalize_json(literal.as_bytes()) {
            prop_assert_eq!(bytes, literal.into_bytes());
        }
    }

    #[test]
    fn a_double_survives_its_text(bits in any::<u64>()) {
        if let Ok(Value::Float(double)) = float(f64::from_bits(bits)) {
            let text = canonical(&Value::Float(double));
            let again: f64 = std::str::from_utf8(&text).unwrap().parse().unwrap();
            prop_assert!(again.to_bits() == double.to_bits() || (again == 0.0 && double == 0.0));
        }
    }

    #[test]
    fn names_are_ordered_by_utf16_units(a in any::<String>(), b in any::<String>()) {
        let units = |text: &str| text.encode_utf16().collect::<Vec<_>>();
        prop_assert_eq!(compare_names(&a, &b), units(&a).cmp(&units(&b)));
    }

    #[test]
    fn member_order_never_shows(
        members in prop::collection::btree_map(text(), 0_i64..9, 0..40),
        seed in any::<u64>(),
    ) {
        let mut shuffled: Vec<_> = members.iter().collect();
        let length = shuffled.len();
        for (index, bits) in (0..length).zip((0..64).cycle().map(|by| seed.rotate_left(by))) {
            shuffled.swap(index, usize::try_from(bits % length as u64).unwrap());
        }
        let build = |members: Vec<(&String, &i64)>| {
            let mut builder = Builder::new();
            builder.open_object().unwrap();
            for (name, number) in members {
                builder.name(name.clone()).unwrap();
                builder.integer(*number).unwrap();
            }
            builder.close().unwrap();
            canonical(&builder.finish().unwrap())
        };
        prop_assert_eq!(build(shuffled), build(members.iter().collect()));
    }

    #[test]
    fn a_canonical_path_is_a_fixed_point_inside_its_plan(text in pathlike()) {
        let root = PlanAddress::parse("/world/acme/p1").unwrap();
        if let Ok(path) = WorldPath::parse(&text, Some(&root)) {
            let canonical = path.to_string();
            let again = WorldPath::parse(&canonical, None).unwrap().to_string();
            prop_assert_eq!(again, canonical.clone());
            prop_assert!(canonical.len() <= 1024);
            for segment in path.segments() {
                prop_assert!(segment != ".." && segment.len() <= 255);
            }
            let facet = if text.starts_with("world:") { "streams" } else { "artifacts" };
            let home = WorldPath::parse(&format!("/{facet}/"), Some(&root)).unwrap();
            prop_assert!(home.contains(&path), "{canonical}");
        }
    }

    #[test]
    fn a_joined_path_stays_below_its_base(rel in pathlike()) {
        let base = WorldPath::parse("/world/acme/p1/artifacts/base/", None).unwrap();
        if let Ok(path) = base.join(&rel) {
            prop_assert!(base.contains(&path));
            prop_assert_eq!(WorldPath::parse(&path.to_string(), None).unwrap(), path);
        }
    }

    #[test]
    fn conflicting_outputs_are_found_as_by_comparing_all_pairs(
        rels in prop::collection::vec("[ab]( |-|[ab]|/[ab]){0,3}", 1..8),
    ) {
        let base = WorldPath::parse("/world/acme/p1/artifacts/", None).unwrap();
        let paths: Result<Vec<_>, _> = rels.iter().map(|rel| base.join(rel)).collect();
        if let Ok(paths) = paths {
            let clash = (0..paths.len()).any(|a| {
                (0..paths.len()).any(|b| a != b && paths[a].starts_with(&paths[b]))
            });
            prop_assert_eq!(check_outputs(&paths).is_err(), clash);
        }
    }
}
