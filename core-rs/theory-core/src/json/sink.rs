//! What a reader of JSON tells about a value, event by event, and who may listen.

use crate::error::Result;

/// Takes a value apart into events and makes of them what it likes: a tree, bytes, objects.
///
/// Law: the reader holds every rule of canonical JSON but one before it tells an event. That no
/// object has two members of one name is the sink's to refuse, because only it remembers names.
pub trait Sink {
    /// A container opens.
    ///
    /// # Errors
    /// What the sink cannot take.
    fn open(&mut self, container: Container) -> Result<()>;

    /// The innermost container closes.
    ///
    /// # Errors
    /// What the sink cannot take.
    fn close(&mut self) -> Result<()>;

    /// The next member of the innermost object has this name; its value follows.
    ///
    /// # Errors
    /// `ERR_JSON_DUPLICATE`, here or at the latest when the object closes.
    fn name(&mut self, name: Text<'_>) -> Result<()>;

    /// A value that is no container.
    ///
    /// # Errors
    /// What the sink cannot take.
    fn scalar(&mut self, scalar: Scalar<'_>) -> Result<()>;
}

/// Which container opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// `[`
    Array,
    /// `{`
    Object,
}

/// A value that is no container; each holds the rules of [`crate::json::Value`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scalar<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// An integer within ±(2^53 - 1).
    Int(i64),
    /// A finite double.
    Float(f64),
    /// Text without noncharacters.
    Text(Text<'a>),
}

/// Text of a string or name, without its quotes and escapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text<'a> {
    text: &'a str,
    plain: bool,
}

impl<'a> Text<'a> {
    /// Text that stood in the input as it is, without an escape.
    pub(crate) fn plain(text: &'a str) -> Self {
        Self { text, plain: true }
    }

    /// Text out of which escapes were taken.
    pub(crate) fn unescaped(text: &'a str) -> Self {
        Self { text, plain: false }
    }

    /// The text itself.
    #[must_use]
    pub fn as_str(self) -> &'a str {
        self.text
    }

    /// Whether the canonical form is the text between quotes: nothing in it needs an escape.
    pub(crate) fn is_plain(self) -> bool {
        self.plain
    }
}
