//! Grammars of the texts in event data, each the pattern of its JSON Schema.

use super::types::is_bounded;
use crate::digest;
use crate::facts::is_hex;
use crate::ids;
use crate::path::FACETS;

/// Longest path in characters, by the schemas.
const PATH: usize = 1024;

pub(super) use crate::facts::is_oci;
pub(super) use crate::path::is_name;

/// `/world/{tenant}/{plan}`.
pub(super) fn is_plan(text: &str) -> bool {
    ids::check_plan(text).is_ok()
}

/// A `b3:` digest; its digits are looked at, not decoded, as most events have several.
pub(super) fn is_b3(text: &str) -> bool {
    let digits = text.strip_prefix(digest::PREFIX);
    digits.is_some_and(|digits| digits.len() == 64 && digits.bytes().all(is_hex))
}

/// A plan-relative path without a trailing slash.
pub(super) fn is_exact(text: &str) -> bool {
    let mut parts = text.split('/');
    let rooted = parts.next() == Some("") && parts.next().is_some_and(|it| FACETS.contains(&it));
    is_bounded(text, PATH) && rooted && parts.all(is_segment)
}

/// A plan-relative path with a trailing slash.
pub(super) fn is_prefix(text: &str) -> bool {
    is_bounded(text, PATH) && text.strip_suffix('/').is_some_and(is_exact)
}

fn is_segment(text: &str) -> bool {
    !text.is_empty() && !text.contains(['?', '#', '\\', '{', '}'])
}

/// A path that may hold a placeholder.
pub(super) fn is_template(text: &str) -> bool {
    let rest = text.strip_prefix('/').unwrap_or_default();
    is_bounded(text, PATH) && !rest.is_empty() && !rest.contains(['?', '#', '\\'])
}

/// `namespace/name@version` of a processor.
pub(super) fn is_ref(text: &str) -> bool {
    let lower = |byte: u8| byte.is_ascii_lowercase();
    let later = |byte: u8| lower(byte) || byte.is_ascii_digit();
    let versioned = text.split_once('@').filter(|(_, version)| is_version(version));
    versioned.and_then(|(named, _)| named.split_once('/')).is_some_and(|(space, name)| {
        is_word(space, 31, lower, later) && is_word(name, 63, lower, |it| later(it) || it == b'-')
    })
}

/// `name@version` of a predicate.
pub(super) fn is_predicate(text: &str) -> bool {
    let later = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.');
    text.split_once('@').is_some_and(|(name, version)| {
        is_version(version) && is_word(name, usize::MAX, |it| it.is_ascii_lowercase(), later)
    })
}

/// An error code.
pub(super) fn is_code(text: &str) -> bool {
    let later = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
    text.strip_prefix("ERR_").is_some_and(|rest| is_word(rest, usize::MAX, later, later))
}

/// The name of a secret.
pub(super) fn is_secret(text: &str) -> bool {
    let upper = |byte: u8| byte.is_ascii_uppercase();
    is_word(text, 63, upper, |it| upper(it) || it.is_ascii_digit() || it == b'_')
}

/// A media type, by the wider pattern of the events.
pub(super) fn is_mime(text: &str) -> bool {
    let token = |part: &str| !part.is_empty() && !part.contains(is_space);
    let printable =
        |part: &str| !part.is_empty() && part.bytes().all(|it| matches!(it, b' '..=b'~'));
    let typed = |(kind, rest): (&str, &str)| {
        let (subtype, parameters) = match rest.split_once(';') {
            Some((subtype, parameters)) => (subtype, Some(parameters)),
            None => (rest, None),
        };
        token(kind) && token(subtype) && !subtype.contains('/') && parameters.is_none_or(printable)
    };
    is_bounded(text, 255) && text.split_once('/').is_some_and(typed)
}

/// White space of ECMA-262, in whose regular expressions the schemas are written.
fn is_space(character: char) -> bool {
    character == '\u{feff}' || (character.is_whitespace() && character != '\u{85}')
}

fn is_version(text: &str) -> bool {
    is_word(text, 4, |it| matches!(it, b'1'..=b'9'), |it| it.is_ascii_digit())
}

/// Whether the text has one to `most` bytes, of which the first and the later are accepted.
fn is_word(text: &str, most: usize, first: fn(u8) -> bool, later: impl Fn(u8) -> bool) -> bool {
    let mut bytes = text.bytes();
    text.len() <= most && bytes.next().is_some_and(first) && bytes.all(later)
}
