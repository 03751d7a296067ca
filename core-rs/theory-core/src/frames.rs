//! Frames of `theory.run.v1`: what each may hold, and its one text (spec: run.v1).

mod content;

use crate::error::{Code, Error, Result};
use crate::facts;
use crate::json::{Value, canonical, parse};
use crate::limits::FRAME_BYTES;
use crate::shape::{Misfit, Unknown};

/// The WebSocket subprotocol.
pub const SUBPROTOCOL: &str = "theory.run.v1";

/// Close code for a wrong kind, order or subprotocol.
pub const CLOSE_PROTOCOL: u16 = 1002;
/// Close code for an invalid payload or role.
pub const CLOSE_INVALID: u16 = 1008;
/// Close code for a frame that is too large.
pub const CLOSE_TOO_LARGE: u16 = 1009;

/// Who sends a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// The control plane, or whoever watches or controls a run.
    Client,
    /// The processor's runtime.
    Server,
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Starts a run or attaches to it.
    RunOpen,
    /// Cancels, pauses, resumes a run or sets its budget.
    Control,
    /// Answers `RunOpen`; belongs to the connection.
    Ack,
    /// Text as it is produced.
    Token,
    /// A piece of a media stream.
    Frame,
    /// A log line.
    Log,
    /// A phase of the work, its progress and usage.
    Event,
    /// Frames that are gone; belongs to the connection.
    Gap,
    /// The envelope; the last frame of a run.
    RunResult,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::RunOpen,
        Self::Control,
        Self::Ack,
        Self::Token,
        Self::Frame,
        Self::Log,
        Self::Event,
        Self::Gap,
        Self::RunResult,
    ];

    /// The kind's name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RunOpen => "RunOpen",
            Self::Control => "Control",
            Self::Ack => "Ack",
            Self::Token => "Token",
            Self::Frame => "Frame",
            Self::Log => "Log",
            Self::Event => "Event",
            Self::Gap => "Gap",
            Self::RunResult => "RunResult",
        }
    }

    /// Who sends frames of this kind.
    #[must_use]
    pub fn sender(self) -> Sender {
        match self {
            Self::RunOpen | Self::Control => Sender::Client,
            _ => Sender::Server,
        }
    }

    /// Whether its frames belong to a connection and carry seq 0.
    #[must_use]
    pub fn is_unnumbered(self) -> bool {
        matches!(self, Self::Ack | Self::Gap)
    }

    fn find(name: &str, sender: Sender) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name && kind.sender() == sender)
    }
}

/// A frame whose content fits its kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// Its number in the run, from 1; 0 for `Ack` and `Gap`; none for frames of a client.
    pub seq: Option<u64>,
    /// Its content.
    pub content: Value,
}

impl Frame {
    /// Reads the text of a frame that `sender` sent.
    ///
    /// Unknown members are refused in frames of clients and left out of frames of servers.
    ///
    /// # Errors
    /// `ERR_TOO_LARGE` over 8 MiB; `ERR_WS_PROTOCOL` for anything that is no frame of this sender;
    /// the codes of [`crate::envelope::validate`] for a `RunResult`. `detail.close` is the close
    /// code that answers it, `detail.place` and `detail.problem` name the member.
    pub fn read(text: &[u8], sender: Sender) -> Result<Self> {
        check_size(text)?;
        let value = parse(text).map_err(|error| {
            invalid("frame is not strict JSON").with("reason", error.code.as_str())
        })?;
        Self::from_value(value, sender)
    }

    /// As [`Frame::read`], for a JSON value.
    ///
    /// # Errors
    /// Those of [`Frame::read`] but for the size.
    pub fn from_value(frame: Value, sender: Sender) -> Result<Self> {
        let Value::Object(members) = frame else {
            return Err(invalid("frame is not an object"));
        };
        let (mut kind, mut seq, mut content) = (None, None, None);
        for (name, value) in members {
            match (name.as_str(), sender) {
                ("kind", _) => kind = Some(value),
                ("seq", Sender::Server) => seq = Some(value),
                ("content", _) => content = Some(value),
                (_, Sender::Client) => return Err(invalid("frame has an unknown member")),
                (_, Sender::Server) => {}
            }
        }
        let kind = kind.as_ref().and_then(Value::as_str).and_then(|name| Kind::find(name, sender));
        let kind = kind.ok_or_else(|| disordered("no frame kind of this side"))?;
        let content = content.ok_or_else(|| misfit(kind, &Misfit::new("", "missing")))?;
        let unknown = if sender == Sender::Client { Unknown::Refuse } else { Unknown::Drop };
        let seq = check_seq(kind, seq.as_ref())?;
        Ok(Self { kind, seq, content: content::fit_kind(kind, content, unknown)? })
    }

    /// A frame to send; every member has to be known.
    ///
    /// # Errors
    /// Those of [`Frame::read`] but for the size.
    pub fn new(kind: Kind, seq: Option<u64>, content: Value) -> Result<Self> {
        let number = seq.map(|seq| i64::try_from(seq).map_or(Value::Null, Value::Int));
        let seq = check_seq(kind, number.as_ref())?;
        Ok(Self { kind, seq, content: content::fit_kind(kind, content, Unknown::Refuse)? })
    }

    /// The frame as a value.
    #[must_use]
    pub fn into_value(self) -> Value {
        let mut members = vec![("kind".to_owned(), Value::Str(self.kind.as_str().to_owned()))];
        let seq = self.seq.and_then(|seq| i64::try_from(seq).ok());
        members.extend(seq.map(|seq| ("seq".to_owned(), Value::Int(seq))));
        members.push(("content".to_owned(), self.content));
        Value::Object(members)
    }

    /// The frame's canonical text.
    ///
    /// # Errors
    /// `ERR_TOO_LARGE` over 8 MiB.
    pub fn encode(self) -> Result<Vec<u8>> {
        let bytes = canonical(&self.into_value());
        check_size(&bytes).map(|()| bytes)
    }
}

/// Law: a run's frames are numbered from 1, a connection's own carry 0, a client's none.
fn check_seq(kind: Kind, seq: Option<&Value>) -> Result<Option<u64>> {
    let whole = |seq: &Value| seq.as_int().filter(|_| facts::count(seq));
    let number = seq.map(|seq| whole(seq).and_then(|seq| u64::try_from(seq).ok()));
    match (kind.sender(), number) {
        (Sender::Client, None) => Ok(None),
        (Sender::Server, Some(Some(number))) if (number == 0) == kind.is_unnumbered() => {
            Ok(Some(number))
        }
        _ => Err(misfit(kind, &Misfit::new("seq", "invalid"))),
    }
}

fn check_size(text: &[u8]) -> Result<()> {
    if text.len() <= FRAME_BYTES {
        return Ok(());
    }
    let error = Error::new(Code::TooLarge, "frame larger than 8 MiB");
    Err(error.with("limit", FRAME_BYTES).with("close", CLOSE_TOO_LARGE))
}

/// Refusal of a frame that says something where it must not.
pub(crate) fn disordered(reason: &str) -> Error {
    refused(reason, CLOSE_PROTOCOL)
}

/// Refusal of a frame whose content is wrong.
pub(crate) fn invalid(reason: &str) -> Error {
    refused(reason, CLOSE_INVALID)
}

fn refused(reason: &str, close: u16) -> Error {
    let code = Code::WsProtocol;
    Error::new(code, format!("{}: {reason}", code.entry().summary)).with("close", close)
}

fn misfit(kind: Kind, misfit: &Misfit) -> Error {
    let place = if misfit.place.is_empty() { "content" } else { &misfit.place };
    invalid(&format!("malformed {}", kind.as_str()))
        .with("place", place)
        .with("problem", misfit.problem)
}
