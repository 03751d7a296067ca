//! The tables of the core against the published data and their own laws.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panic")]

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use theory_core::unicode::{UNICODE, fold, has_noncharacter, is_visible, lower, nfc};

const DATA: &str = "/usr/share/unicode";

fn every_character() -> impl Iterator<Item = char> {
    (0..=0x0010_ffff).filter_map(char::from_u32)
}

/// Published rows of a data file of this Unicode version, if the machine has it.
fn published(file: &str) -> Option<String> {
    let readme = fs::read_to_string(Path::new(DATA).join("ReadMe.txt")).unwrap_or_default();
    if !readme.contains(&format!("Version {UNICODE} of the Unicode Standard")) {
        println!("skipped: {DATA} does not hold Unicode {UNICODE}");
        return None;
    }
    Some(fs::read_to_string(Path::new(DATA).join(file)).unwrap())
}

fn point(text: &str) -> u32 {
    u32::from_str_radix(text, 16).unwrap()
}

/// Category and simple lowercase of every assigned code point.
fn unicode_data(text: &str) -> HashMap<u32, (String, Option<u32>)> {
    let mut rows = HashMap::new();
    let mut range = None;
    for line in text.lines() {
        let fields: Vec<&str> = line.split(';').collect();
        let lowercase = (!fields[13].is_empty()).then(|| point(fields[13]));
        let row = (fields[2].to_owned(), lowercase);
        if fields[1].ends_with(", First>") {
            range = Some(point(fields[0]));
        }
        let first = if fields[1].ends_with(", Last>") { range.unwrap() } else { point(fields[0]) };
        for code in first..=point(fields[0]) {
            rows.insert(code, row.clone());
        }
    }
    rows
}

#[test]
fn visible_characters_are_those_of_the_published_categories() {
    let Some(text) = published("UnicodeData.txt") else { return };
    let rows = unicode_data(&text);
    let selectors: HashSet<u32> = published("PropList.txt")
        .unwrap()
        .lines()
        .filter_map(|line| line.split('#').next()?.split_once(';'))
        .filter(|(_, property)| property.trim() == "Variation_Selector")
        .flat_map(|(range, _)| {
            let (first, last) =
                range.trim().split_once("..").unwrap_or((range.trim(), range.trim()));
            point(first)..=point(last)
        })
        .collect();
    assert_eq!(selectors.len(), 260);
    for character in every_character() {
        let code = u32::from(character);
        let category = rows.get(&code).map_or("Cn", |(category, _)| category.as_str());
        let refused = matches!(category, "Cc" | "Cf" | "Cs" | "Co" | "Cn" | "Zl" | "Zp")
            || (category == "Zs" && character != ' ')
            || selectors.contains(&code);
        assert_eq!(is_visible(character), !refused, "U+{code:04X} {category}");
    }
}

#[test]
fn lowercase_is_the_published_mapping_without_context() {
    let Some(text) = published("UnicodeData.txt") else { return };
    let rows = unicode_data(&text);
    let special: HashMap<u32, Vec<u32>> = published("SpecialCasing.txt")
        .unwrap()
        .lines()
        .map(|line| line.split('#').next().unwrap().split(';').map(str::trim).collect::<Vec<_>>())
        .filter(|fields| fields.len() == 5 && fields[4].is_empty())
        .map(|fields| (point(fields[0]), fields[1].split(' ').map(point).collect()))
        .collect();
    for character in every_character() {
        let code = u32::from(character);
        let simple = rows.get(&code).and_then(|(_, lowercase)| *lowercase).unwrap_or(code);
        let expected = special.get(&code).cloned().unwrap_or_else(|| vec![simple]);
        let mapped: Vec<u32> = lower(character).map(u32::from).collect();
        assert_eq!(mapped, expected, "U+{code:04X}");
    }
}

#[test]
fn folding_a_folded_character_changes_nothing_and_hides_nothing() {
    for character in every_character().filter(|character| is_visible(*character)) {
        let folded = fold(&character.to_string());
        assert_eq!(fold(&folded), folded, "U+{:04X}", u32::from(character));
        assert_eq!(nfc(&folded), folded, "U+{:04X}", u32::from(character));
        assert!(folded.chars().all(is_visible), "U+{:04X}", u32::from(character));
        assert!(!folded.contains(['/', '%', '\\', '{', '}', '?', '#']) || character.is_ascii());
    }
}

#[test]
fn noncharacters_are_the_sixty_six() {
    let found = every_character().filter(|character| has_noncharacter(&character.to_string()));
    let expected = (0xfdd0..=0xfdef).chain((0..=0x10).flat_map(|plane| {
        let last = plane * 0x1_0000 + 0xffff;
        [last - 1, last]
    }));
    let mut expected: Vec<u32> = expected.collect();
    expected.sort_unstable();
    assert_eq!(found.map(u32::from).collect::<Vec<_>>(), expected);
    assert_eq!(expected.len(), 66);
}
