//! Strict reader of JSON text: RFC 8259 and I-JSON, without recursion and without a tree.

use crate::error::{Code, Error, Result};
use crate::json::build::{check_depth, check_text};
use crate::json::sink::{Container, Scalar, Sink};
use crate::json::token::{Cursor, syntax};
use crate::json::{Builder, Value};

/// The value of a JSON text (spec: canonical JSON).
///
/// # Errors
/// Those of [`read`].
pub fn parse(text: &[u8]) -> Result<Value> {
    let mut builder = Builder::new();
    read(text, &mut builder)?;
    builder.finish()
}

/// Tells `sink` the value of a JSON text; beside the sink it holds one string at a time.
///
/// # Errors
/// `ERR_JSON_UTF8`, `ERR_JSON_SYNTAX`, `ERR_JSON_NUMBER`, `ERR_JSON_UNICODE`, `ERR_JSON_DEPTH` and
/// those of the sink: the first fault in reading order, invalid UTF-8 before all others; `detail`
/// has `offset` (bytes, from 0), `line` and `column` (characters, from 1).
pub fn read<S: Sink>(text: &[u8], sink: &mut S) -> Result<()> {
    let decoded = std::str::from_utf8(text).map_err(|fault| {
        let error = Error::new(Code::JsonUtf8, "text is not UTF-8");
        locate(error, text, fault.valid_up_to())
    })?;
    let mut reader =
        Reader { cursor: Cursor::new(decoded), room: String::new(), open: Vec::new(), sink };
    reader.document().map_err(|error| locate(error, text, reader.cursor.at))
}

/// Position of a fault, as facts of the error.
fn locate(error: Error, text: &[u8], at: usize) -> Error {
    let before = &text[..at.min(text.len())];
    let line = before.split(|&byte| byte == b'\n').count();
    let start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    let column = before[start..].iter().filter(|&&byte| byte & 0xc0 != 0x80).count() + 1;
    error.with("offset", at).with("line", line).with("column", column)
}

struct Reader<'a, S> {
    cursor: Cursor<'a>,
    room: String,
    open: Vec<Container>,
    sink: &'a mut S,
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

impl<S: Sink> Reader<'_, S> {
    fn document(&mut self) -> Result<()> {
        let mut next = Next::Value;
        loop {
            self.cursor.skip_blanks();
            let Some(byte) = self.cursor.peek() else {
                return Err(syntax("text ends early"));
            };
            next = match (next, byte) {
                (Next::ElementOrEnd, b']') | (Next::NameOrEnd, b'}') => self.close()?,
                (Next::CommaOrEnd, b',') => self.comma(),
                (Next::CommaOrEnd, _) if self.ends(byte) => self.close()?,
                (Next::CommaOrEnd, _) => return Err(syntax("expected a comma or the end")),
                (Next::Name | Next::NameOrEnd, b'"') => self.name()?,
                (Next::Name | Next::NameOrEnd, _) => return Err(syntax("expected a name")),
                (Next::Value | Next::ElementOrEnd, _) => self.value(byte)?,
            };
            if self.open.is_empty() {
                self.cursor.skip_blanks();
                return match self.cursor.peek() {
                    Some(_) => Err(syntax("text after the value")),
                    None => Ok(()),
                };
            }
        }
    }

    fn comma(&mut self) -> Next {
        self.cursor.at += 1;
        match self.open.last() {
            Some(Container::Object) => Next::Name,
            _ => Next::Value,
        }
    }

    /// Whether the byte closes the innermost container.
    fn ends(&self, byte: u8) -> bool {
        match self.open.last() {
            Some(Container::Array) => byte == b']',
            Some(Container::Object) => byte == b'}',
            None => false,
        }
    }

    fn close(&mut self) -> Result<Next> {
        self.sink.close()?;
        self.open.pop();
        self.cursor.at += 1;
        Ok(Next::CommaOrEnd)
    }

    fn name(&mut self) -> Result<Next> {
        let start = self.cursor.at;
        let name = self.cursor.string(&mut self.room)?;
        let end = std::mem::replace(&mut self.cursor.at, start);
        check_text(name.as_str())?;
        self.sink.name(name)?;
        self.cursor.at = end;
        self.cursor.skip_blanks();
        if self.cursor.peek() != Some(b':') {
            return Err(syntax("expected a colon"));
        }
        self.cursor.at += 1;
        Ok(Next::Value)
    }

    fn value(&mut self, byte: u8) -> Result<Next> {
        let start = self.cursor.at;
        let scalar = match byte {
            b'[' => return self.open(Container::Array),
            b'{' => return self.open(Container::Object),
            b'"' => Scalar::Text(self.cursor.string(&mut self.room)?),
            b'-' | b'0'..=b'9' => self.cursor.number()?,
            b't' => self.cursor.word("true", Scalar::Bool(true))?,
            b'f' => self.cursor.word("false", Scalar::Bool(false))?,
            b'n' => self.cursor.word("null", Scalar::Null)?,
            _ => return Err(syntax("expected a value")),
        };
        let end = std::mem::replace(&mut self.cursor.at, start);
        if let Scalar::Text(text) = scalar {
            check_text(text.as_str())?;
        }
        self.sink.scalar(scalar)?;
        self.cursor.at = end;
        Ok(Next::CommaOrEnd)
    }

    fn open(&mut self, container: Container) -> Result<Next> {
        check_depth(self.open.len())?;
        self.sink.open(container)?;
        self.open.push(container);
        self.cursor.at += 1;
        Ok(match container {
            Container::Array => Next::ElementOrEnd,
            Container::Object => Next::NameOrEnd,
        })
    }
}
