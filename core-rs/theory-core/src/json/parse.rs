//! Strict reader of JSON text: RFC 8259 and I-JSON, without recursion.

use crate::error::{Code, Error, Result};
use crate::json::{Builder, Value};
use crate::number;

/// The value of a JSON text (spec: canonical JSON).
///
/// # Errors
/// `ERR_JSON_UTF8`, `ERR_JSON_SYNTAX`, `ERR_JSON_DUPLICATE`, `ERR_JSON_NUMBER`, `ERR_JSON_UNICODE`,
/// `ERR_JSON_DEPTH`: the first fault in reading order, invalid UTF-8 before all others; `detail`
/// has `offset` (bytes, from 0), `line` and `column` (characters, from 1).
pub fn parse(text: &[u8]) -> Result<Value> {
    let decoded = std::str::from_utf8(text).map_err(|fault| {
        let error = Error::new(Code::JsonUtf8, "text is not UTF-8");
        locate(error, text, fault.valid_up_to())
    })?;
    let mut reader = Reader { text: decoded, bytes: text, at: 0, builder: Builder::new() };
    match reader.document() {
        Ok(()) => reader.builder.finish(),
        Err(error) => Err(locate(error, text, reader.at)),
    }
}

/// Position of a fault, as facts of the error.
fn locate(error: Error, text: &[u8], at: usize) -> Error {
    let before = &text[..at.min(text.len())];
    let line = before.split(|&byte| byte == b'\n').count();
    let start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    let column = before[start..].iter().filter(|&&byte| byte & 0xc0 != 0x80).count() + 1;
    error.with("offset", at).with("line", line).with("column", column)
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    builder: Builder,
}

/// What may stand next.
#[derive(Clone, Copy)]
enum Next {
    Value,
    ElementOrEnd,
    NameOrEnd,
    Name,
    CommaOrEnd,
}

impl Reader<'_> {
    fn document(&mut self) -> Result<()> {
        let mut closers: Vec<u8> = Vec::new();
        let mut next = Next::Value;
        loop {
            self.skip_blanks();
            let Some(&byte) = self.bytes.get(self.at) else {
                return Err(syntax("text ends early"));
            };
            next = match (next, byte) {
                (Next::ElementOrEnd, b']') | (Next::NameOrEnd, b'}') => self.end(&mut closers)?,
                (Next::CommaOrEnd, b',') => {
                    self.at += 1;
                    if closers.last() == Some(&b'}') { Next::Name } else { Next::Value }
                }
                (Next::CommaOrEnd, _) if closers.last() == Some(&byte) => self.end(&mut closers)?,
                (Next::CommaOrEnd, _) => return Err(syntax("expected a comma or the end")),
                (Next::Name | Next::NameOrEnd, b'"') => self.name()?,
                (Next::Name | Next::NameOrEnd, _) => return Err(syntax("expected a name")),
                (Next::Value | Next::ElementOrEnd, _) => self.value(byte, &mut closers)?,
            };
            if closers.is_empty() {
                self.skip_blanks();
                if self.at < self.bytes.len() {
                    return Err(syntax("text after the value"));
                }
                return Ok(());
            }
        }
    }

    fn skip_blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    fn end(&mut self, closers: &mut Vec<u8>) -> Result<Next> {
        self.builder.close()?;
        closers.pop();
        self.at += 1;
        Ok(Next::CommaOrEnd)
    }

    fn name(&mut self) -> Result<Next> {
        let start = self.at;
        let name = self.string()?;
        let end = std::mem::replace(&mut self.at, start);
        self.builder.name(name)?;
        self.at = end;
        self.skip_blanks();
        if self.bytes.get(self.at) != Some(&b':') {
            return Err(syntax("expected a colon"));
        }
        self.at += 1;
        Ok(Next::Value)
    }

    fn value(&mut self, byte: u8, closers: &mut Vec<u8>) -> Result<Next> {
        match byte {
            b'[' => {
                self.builder.open_array()?;
                closers.push(b']');
                self.at += 1;
                return Ok(Next::ElementOrEnd);
            }
            b'{' => {
                self.builder.open_object()?;
                closers.push(b'}');
                self.at += 1;
                return Ok(Next::NameOrEnd);
            }
            b'"' => {
                let start = self.at;
                let text = self.string()?;
                let end = std::mem::replace(&mut self.at, start);
                self.builder.text(text)?;
                self.at = end;
            }
            b'-' | b'0'..=b'9' => self.number()?,
            b't' => self.word("true", Value::Bool(true))?,
            b'f' => self.word("false", Value::Bool(false))?,
            b'n' => self.word("null", Value::Null)?,
            _ => return Err(syntax("expected a value")),
        }
        Ok(Next::CommaOrEnd)
    }

    fn word(&mut self, word: &str, value: Value) -> Result<()> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(syntax("expected a value"));
        }
        self.builder.put(value)?;
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<()> {
        let start = self.at;
        if self.bytes.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        if self.bytes.get(self.at) == Some(&b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.bytes.get(self.at) {
                self.at += 1;
            }
            self.digits()?;
        }
        let end = std::mem::replace(&mut self.at, start);
        self.builder.put(number::literal(&self.text[start..end])?)?;
        self.at = end;
        Ok(())
    }

    fn digits(&mut self) -> Result<()> {
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.at == start {
            return Err(syntax("expected a digit"));
        }
        Ok(())
    }

    /// Reads a string; `at` stands on the opening quote before and behind the closing one after.
    fn string(&mut self) -> Result<String> {
        self.at += 1;
        let mut out = String::new();
        let mut start = self.at;
        loop {
            match self.bytes.get(self.at) {
                None => return Err(syntax("text ends inside a string")),
                Some(b'"') => {
                    out.push_str(&self.text[start..self.at]);
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    out.push_str(&self.text[start..self.at]);
                    out.push(self.escape()?);
                    start = self.at;
                }
                Some(0..0x20) => return Err(syntax("control character inside a string")),
                Some(_) => self.at += 1,
            }
        }
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

fn syntax(message: &'static str) -> Error {
    Error::new(Code::JsonSyntax, message)
}

/// Refusal of text that holds half of a surrogate pair.
fn lone_surrogate() -> Error {
    Error::new(Code::JsonUnicode, "text contains a lone surrogate")
}
