//! Character rules, all from one Unicode version.

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// The Unicode version of every table in the core.
pub const UNICODE: &str = "15.0.0";

const _: () = {
    let (a, b, c) = unicode_normalization::UNICODE_VERSION;
    assert!(a == 15 && b == 0 && c == 0, "normalisation tables differ from UNICODE");
    let (a, b, c) = unicode_properties::UNICODE_VERSION;
    assert!(a == 15 && b == 0 && c == 0, "category tables differ from UNICODE");
    let (a, b, c) = unicode_case_mapping::UNICODE_VERSION;
    assert!(a == 15 && b == 0 && c == 0, "case tables differ from UNICODE");
};

/// Whether some character of the text is a noncharacter (U+FDD0..U+FDEF, U+nFFFE, U+nFFFF).
#[must_use]
pub fn has_noncharacter(text: &str) -> bool {
    !text.is_ascii() && text.chars().any(is_noncharacter)
}

pub(crate) fn is_noncharacter(character: char) -> bool {
    let point = u32::from(character);
    point & 0xfffe == 0xfffe || (0xfdd0..=0xfdef).contains(&point)
}

/// Whether a segment of a WorldPath may contain the character (spec: WorldPath).
///
/// Refused: controls, format characters, unassigned and private code points, separators other
/// than the plain space, and variation selectors: what a reader cannot see or tell apart.
#[must_use]
pub fn is_visible(character: char) -> bool {
    if character.is_ascii() {
        return matches!(character, ' '..='~');
    }
    if is_variation_selector(character) {
        return false;
    }
    !matches!(
        character.general_category(),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::Surrogate
            | GeneralCategory::PrivateUse
            | GeneralCategory::Unassigned
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
            | GeneralCategory::SpaceSeparator
    )
}

fn is_variation_selector(character: char) -> bool {
    matches!(
        u32::from(character),
        0x180b..=0x180d | 0x180f | 0xfe00..=0xfe0f | 0xe_0100..=0xe_01ef
    )
}

/// NFC, lower, NFC; lower is the full `Lowercase_Mapping` per code point, without context.
#[must_use]
pub fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    text.nfc().flat_map(lower).nfc().collect()
}

/// NFC of a text.
#[must_use]
pub fn nfc(text: &str) -> String {
    if is_nfc_quick(text.chars()) == IsNormalized::Yes {
        return text.to_owned();
    }
    text.nfc().collect()
}

/// Full lowercase of one code point: itself where the table has no mapping, at most two.
pub fn lower(character: char) -> impl Iterator<Item = char> {
    let [first, second] = unicode_case_mapping::to_lowercase(character);
    let mapped = |point: u32| char::from_u32(point).filter(|_| point != 0);
    std::iter::once(mapped(first).unwrap_or(character)).chain(mapped(second))
}
