//! The order of members: by the UTF-16 code units of their names (RFC 8785, 3.2.3).

use std::cmp::Ordering;

/// Order of member names: by UTF-16 code units (RFC 8785, 3.2.3), computed on UTF-8.
///
/// UTF-8 bytes sort by code point; UTF-16 differs only in that surrogate pairs (lead bytes F0 and
/// above) come before U+E000..U+FFFF (lead bytes EE and EF).
#[must_use]
pub fn compare_names(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    match a.iter().zip(b).find(|(x, y)| x != y) {
        Some((&x, &y)) => (rank(x), x).cmp(&(rank(y), y)),
        None => a.len().cmp(&b.len()),
    }
}

fn rank(byte: u8) -> u8 {
    match byte {
        0xee | 0xef => 2,
        0xf0.. => 1,
        _ => 0,
    }
}

/// The same order of two names that are written already: canonical texts from behind the opening
/// quote on, with the closing quote somewhere.
pub(super) fn compare_written(a: &[u8], b: &[u8]) -> Ordering {
    let special = |(x, y): (&u8, &u8)| x != y || matches!(x, b'"' | b'\\');
    let same = a.iter().zip(b).position(special).unwrap_or_default();
    let (a, b) = (&a[same..], &b[same..]);
    let mut left = Unescaped(a);
    let mut right = Unescaped(b);
    loop {
        return match (left.next(), right.next()) {
            (Some(x), Some(y)) if x == y => continue,
            (Some(x), Some(y)) => (rank(x), x).cmp(&(rank(y), y)),
            (x, y) => x.is_some().cmp(&y.is_some()),
        };
    }
}

/// Bytes of a canonical text without its escapes, up to the closing quote.
struct Unescaped<'a>(&'a [u8]);

impl Iterator for Unescaped<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (byte, length) = match *self.0 {
            [] | [b'"', ..] => return None,
            [b'\\', b'u', _, _, high, low, ..] => (digit(high) << 4 | digit(low), 6),
            [b'\\', b'b', ..] => (0x08, 2),
            [b'\\', b't', ..] => (0x09, 2),
            [b'\\', b'n', ..] => (0x0a, 2),
            [b'\\', b'f', ..] => (0x0c, 2),
            [b'\\', b'r', ..] => (0x0d, 2),
            [b'\\', itself, ..] => (itself, 2),
            [byte, ..] => (byte, 1),
        };
        self.0 = &self.0[length..];
        Some(byte)
    }
}

fn digit(hex: u8) -> u8 {
    if hex.is_ascii_digit() { hex - b'0' } else { (hex | 0x20).wrapping_sub(b'a' - 10) }
}
