//! Builds the tree of a value, event by event, for the object door and for whoever keeps values.

use std::collections::HashSet;

use crate::error::{Code, Error, Result};
use crate::json::Value;
use crate::json::sink::{Container, Scalar, Sink, Text};
use crate::limits::JSON_DEPTH;
use crate::number;
use crate::unicode::has_noncharacter;

/// Up to this many members a linear look for duplicates beats hashing.
const LINEAR_MEMBERS: usize = 16;

/// Builds a value from a stream of events and refuses what canonical JSON refuses.
///
/// Law: depth counts open containers; a scalar has depth 0, `[]` 1, and none exceeds the limit.
#[derive(Debug, Default)]
pub struct Builder {
    open: Vec<Frame>,
    root: Option<Value>,
}

#[derive(Debug)]
enum Frame {
    Array(Vec<Value>),
    Object(Members),
}

#[derive(Debug, Default)]
struct Members {
    list: Vec<(String, Value)>,
    name: Option<String>,
    seen: HashSet<String>,
}

impl Members {
    fn knows(&mut self, name: &str) -> bool {
        if self.list.len() < LINEAR_MEMBERS {
            return self.list.iter().any(|(known, _)| known == name);
        }
        if self.seen.is_empty() {
            self.seen.extend(self.list.iter().map(|(known, _)| known.clone()));
        }
        !self.seen.insert(name.to_owned())
    }
}

impl Builder {
    /// An empty builder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of containers that are open now.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.open.len()
    }

    /// Opens an array.
    ///
    /// # Errors
    /// `ERR_JSON_DEPTH` beyond the limit.
    pub fn open_array(&mut self) -> Result<()> {
        self.open(Frame::Array(Vec::new()))
    }

    /// Opens an object.
    ///
    /// # Errors
    /// `ERR_JSON_DEPTH` beyond the limit.
    pub fn open_object(&mut self) -> Result<()> {
        self.open(Frame::Object(Members::default()))
    }

    fn open(&mut self, frame: Frame) -> Result<()> {
        check_depth(self.open.len())?;
        self.open.push(frame);
        Ok(())
    }

    /// Names the next member of the open object.
    ///
    /// # Errors
    /// `ERR_JSON_DUPLICATE`, `ERR_JSON_UNICODE`; `ERR_JSON_SYNTAX` outside an object.
    pub fn name(&mut self, name: String) -> Result<()> {
        check_text(&name)?;
        self.name_next(name)
    }

    fn name_next(&mut self, name: String) -> Result<()> {
        match self.open.last_mut() {
            Some(Frame::Object(members)) if members.name.is_none() => {
                if members.knows(&name) {
                    return Err(Error::new(Code::JsonDuplicate, "duplicate member name"));
                }
                members.name = Some(name);
                Ok(())
            }
            _ => Err(misplaced()),
        }
    }

    /// Adds text.
    ///
    /// # Errors
    /// `ERR_JSON_UNICODE` for noncharacters.
    pub fn text(&mut self, text: String) -> Result<()> {
        check_text(&text)?;
        self.put(Value::Str(text))
    }

    /// Adds an integer.
    ///
    /// # Errors
    /// `ERR_JSON_NUMBER` beyond ±(2^53 - 1).
    pub fn integer(&mut self, value: i64) -> Result<()> {
        self.put(number::integer(value)?)
    }

    /// Adds a double.
    ///
    /// # Errors
    /// `ERR_JSON_NUMBER` for NaN and infinities.
    pub fn float(&mut self, value: f64) -> Result<()> {
        self.put(number::float(value)?)
    }

    /// Adds `true` or `false`.
    ///
    /// # Errors
    /// `ERR_JSON_SYNTAX` where no value may stand.
    pub fn bool(&mut self, value: bool) -> Result<()> {
        self.put(Value::Bool(value))
    }

    /// Adds `null`.
    ///
    /// # Errors
    /// `ERR_JSON_SYNTAX` where no value may stand.
    pub fn null(&mut self) -> Result<()> {
        self.put(Value::Null)
    }

    /// Closes the innermost container.
    ///
    /// # Errors
    /// `ERR_JSON_SYNTAX` when none is open or a name still waits for its value.
    pub fn close(&mut self) -> Result<()> {
        match self.open.pop() {
            Some(Frame::Array(items)) => self.put(Value::Array(items)),
            Some(Frame::Object(members)) if members.name.is_none() => {
                self.put(Value::Object(members.list))
            }
            _ => Err(misplaced()),
        }
    }

    /// The finished value.
    ///
    /// # Errors
    /// `ERR_JSON_SYNTAX` when nothing was added or a container is still open.
    pub fn finish(self) -> Result<Value> {
        match self.root {
            Some(value) if self.open.is_empty() => Ok(value),
            _ => Err(misplaced()),
        }
    }

    fn put(&mut self, value: Value) -> Result<()> {
        match self.open.last_mut() {
            Some(Frame::Array(items)) => items.push(value),
            Some(Frame::Object(members)) => match members.name.take() {
                Some(name) => members.list.push((name, value)),
                None => return Err(misplaced()),
            },
            None if self.root.is_none() => self.root = Some(value),
            None => return Err(misplaced()),
        }
        Ok(())
    }
}

impl Sink for Builder {
    fn open(&mut self, container: Container) -> Result<()> {
        self.open.push(match container {
            Container::Array => Frame::Array(Vec::new()),
            Container::Object => Frame::Object(Members::default()),
        });
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        Self::close(self)
    }

    fn name(&mut self, name: Text<'_>) -> Result<()> {
        self.name_next(name.as_str().to_owned())
    }

    fn scalar(&mut self, scalar: Scalar<'_>) -> Result<()> {
        self.put(match scalar {
            Scalar::Null => Value::Null,
            Scalar::Bool(value) => Value::Bool(value),
            Scalar::Int(value) => Value::Int(value),
            Scalar::Float(value) => Value::Float(value),
            Scalar::Text(text) => Value::Str(text.as_str().to_owned()),
        })
    }
}

/// Law: with `open` containers around it, a container may open only below the limit.
pub(super) fn check_depth(open: usize) -> Result<()> {
    if open >= JSON_DEPTH {
        return Err(Error::new(Code::JsonDepth, "nesting too deep or cyclic"));
    }
    Ok(())
}

pub(super) fn check_text(text: &str) -> Result<()> {
    if has_noncharacter(text) {
        return Err(Error::new(Code::JsonUnicode, "text contains a noncharacter"));
    }
    Ok(())
}

pub(super) fn misplaced() -> Error {
    Error::new(Code::JsonSyntax, "value or name out of place")
}
