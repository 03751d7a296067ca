//! Reads the words, numbers and strings of a JSON text, each where the cursor stands.

use crate::error::{Code, Error, Result};
use crate::json::sink::{Scalar, Text};
use crate::number;

/// A place in a text; `at` counts bytes and stands on a boundary of characters.
pub(super) struct Cursor<'a> {
    text: &'a str,
    bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, bytes: text.as_bytes(), at: 0 }
    }

    /// The byte under the cursor, unless the text has ended.
    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub(super) fn skip_blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// The value that `word` spells, if it stands here.
    pub(super) fn word(&mut self, word: &str, value: Scalar<'static>) -> Result<Scalar<'static>> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(syntax("expected a value"));
        }
        self.at += word.len();
        Ok(value)
    }

    pub(super) fn number(&mut self) -> Result<Scalar<'static>> {
        let start = self.at;
        let mut whole = true;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            whole = false;
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            whole = false;
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        let end = std::mem::replace(&mut self.at, start);
        let value = number::literal(&self.text[start..end], whole)?;
        self.at = end;
        Ok(value)
    }

    fn digits(&mut self) -> Result<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start {
            return Err(syntax("expected a digit"));
        }
        Ok(())
    }

    /// Reads a string; `at` stands on the opening quote before and behind the closing one after.
    ///
    /// Text with escapes is put together in `room`, which never grows beyond the string itself.
    pub(super) fn string<'t>(&mut self, room: &'t mut String) -> Result<Text<'t>>
    where
        'a: 't,
    {
        self.at += 1;
        let mut start = self.at;
        self.skip_plain();
        if self.peek() == Some(b'"') {
            self.at += 1;
            return Ok(Text::plain(&self.text[start..self.at - 1]));
        }
        make_room(room, self.at - start + self.rest_of_string());
        loop {
            room.push_str(&self.text[start..self.at]);
            while self.peek() == Some(b'\\') {
                room.push(self.escape()?);
            }
            start = self.at;
            self.skip_plain();
            match self.peek() {
                None => return Err(syntax("text ends inside a string")),
                Some(b'"') => {
                    room.push_str(&self.text[start..self.at]);
                    self.at += 1;
                    return Ok(Text::unescaped(room));
                }
                Some(0..0x20) => return Err(syntax("control character inside a string")),
                Some(_) => {}
            }
        }
    }

    /// Goes on to the next quote, backslash or control character, or to the end.
    fn skip_plain(&mut self) {
        let rest = &self.bytes[self.at..];
        let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
        self.at += rest.iter().position(special).unwrap_or(rest.len());
    }

    /// Bytes up to the quote that ends the string, from its first backslash on.
    fn rest_of_string(&self) -> usize {
        let rest = &self.bytes[self.at..];
        let mut end = 0;
        while let Some(more) = rest[end..].iter().position(|byte| *byte == b'"') {
            let before = rest[end..end + more].iter().rev();
            end += more;
            // A quote behind an odd number of backslashes is escaped.
            if before.take_while(|byte| **byte == b'\\').count() % 2 == 0 {
                return end;
            }
            end += 1;
        }
        rest.len()
    }

    fn escape(&mut self) -> Result<char> {
        let short = match self.bytes.get(self.at + 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return Err(syntax("unknown escape")),
        };
        self.at += 2;
        Ok(short)
    }

    fn unicode_escape(&mut self) -> Result<char> {
        let first = self.hex4(self.at)?;
        let (scalar, length) = match first {
            0xd800..=0xdbff if self.bytes[self.at + 6..].starts_with(b"\\u") => {
                let second = self.hex4(self.at + 6)?;
                if !(0xdc00..=0xdfff).contains(&second) {
                    return Err(lone_surrogate());
                }
                (0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00), 12)
            }
            other => (other, 6),
        };
        let character = char::from_u32(scalar).ok_or_else(lone_surrogate)?;
        self.at += length;
        Ok(character)
    }

    /// Four hexadecimal digits of the escape that starts at `at`.
    fn hex4(&self, at: usize) -> Result<u32> {
        let digits = self.bytes.get(at + 2..at + 6).unwrap_or_default();
        if digits.len() != 4 {
            return Err(syntax("incomplete escape"));
        }
        digits.iter().try_fold(0, |value, &digit| {
            let digit = char::from(digit).to_digit(16);
            digit.map(|digit| value * 16 + digit).ok_or_else(|| syntax("incomplete escape"))
        })
    }
}

/// Empties `room` and gives it `bytes` of space, without holding old and new space at once.
fn make_room(room: &mut String, bytes: usize) {
    room.clear();
    if room.capacity() < bytes {
        *room = String::new();
        room.reserve_exact(bytes);
    }
}

pub(super) fn syntax(message: &'static str) -> Error {
    Error::new(Code::JsonSyntax, message)
}

/// Refusal of text that holds half of a surrogate pair.
fn lone_surrogate() -> Error {
    Error::new(Code::JsonUnicode, "text contains a lone surrogate")
}
