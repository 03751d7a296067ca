//! One connection of `theory.run.v1` as a table of what may be said when (spec: run.v1).
//!
//! ```text
//! Opening  -- RunOpen (client) -->  Greeting  -- Ack (server) -->  Running
//! Running  -- Token, Frame, Log, Event, Gap (server) -->  Running
//! Running  -- RunResult (server) -->  Done
//! Control (client, role controller) is legal in every phase but Opening and changes none;
//! in Done it crossed the result on the wire and means nothing.
//! ```
//! Everything else closes the connection with 1002. Both ends keep the same table, each for what it
//! sends and for what it receives.

use crate::error::Result;
use crate::frames::{Frame, Kind, Sender, disordered, invalid};
use crate::json::Value;

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing was said.
    Opening,
    /// The client opened; the server owes an `Ack`.
    Greeting,
    /// Frames of the run flow.
    Running,
    /// The result was said.
    Done,
}

impl Phase {
    /// The phase's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Greeting => "greeting",
            Self::Running => "running",
            Self::Done => "done",
        }
    }
}

/// One end of one connection.
///
/// Law: after `resume_from: n` the numbers n + 1, n + 2, … follow; a `Gap` covers what is gone.
#[derive(Debug, Clone)]
pub struct Connection {
    side: Sender,
    phase: Phase,
    controls: bool,
    execution_id: String,
    next_seq: u64,
}

impl Connection {
    /// The end that `side` holds of a new connection.
    #[must_use]
    pub fn new(side: Sender) -> Self {
        let execution_id = String::new();
        Self { side, phase: Phase::Opening, controls: false, execution_id, next_seq: 1 }
    }

    /// Where the connection stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The number that the run's next frame has on this connection.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Takes a frame of the other end.
    ///
    /// # Errors
    /// Those of [`Frame::read`], and `ERR_WS_PROTOCOL` for one that may not come now; the
    /// connection then stays as it was, to be closed with `detail.close`.
    pub fn receive(&mut self, text: &[u8]) -> Result<Frame> {
        let sender = match self.side {
            Sender::Client => Sender::Server,
            Sender::Server => Sender::Client,
        };
        let frame = Frame::read(text, sender)?;
        self.advance(&frame)?;
        Ok(frame)
    }

    /// The text of a frame of this end.
    ///
    /// # Errors
    /// Those of [`Frame::new`] and [`Frame::encode`], and `ERR_WS_PROTOCOL` for one that may not be
    /// said now; the connection then stays as it was.
    pub fn send(&mut self, kind: Kind, seq: Option<u64>, content: Value) -> Result<Vec<u8>> {
        if kind.sender() != self.side {
            return Err(disordered("no frame kind of this side"));
        }
        let frame = Frame::new(kind, seq, content)?;
        let mut after = self.clone();
        after.advance(&frame)?;
        let bytes = frame.encode()?;
        *self = after;
        Ok(bytes)
    }

    fn advance(&mut self, frame: &Frame) -> Result<()> {
        match (frame.kind, self.phase) {
            (Kind::RunOpen, Phase::Opening) => {
                self.open(&frame.content);
                self.phase = Phase::Greeting;
                Ok(())
            }
            (Kind::Control, Phase::Greeting | Phase::Running | Phase::Done) => {
                if self.controls {
                    Ok(())
                } else {
                    Err(invalid("only a controller sends Control"))
                }
            }
            (Kind::Ack, Phase::Greeting) => {
                if text(&frame.content, "execution_id") != self.execution_id {
                    return Err(invalid("Ack of another execution"));
                }
                self.phase = Phase::Running;
                Ok(())
            }
            (Kind::RunResult, Phase::Running) => {
                if text(&frame.content, "execution_id") != self.execution_id {
                    return Err(invalid("RunResult of another execution"));
                }
                self.count(frame)?;
                self.phase = Phase::Done;
                Ok(())
            }
            (Kind::Token | Kind::Frame | Kind::Log | Kind::Event | Kind::Gap, Phase::Running) => {
                self.count(frame)
            }
            (kind, phase) => {
                let reason = format!("{} while {}", kind.as_str(), phase.as_str());
                Err(disordered(&reason))
            }
        }
    }

    fn open(&mut self, content: &Value) {
        text(content, "execution_id").clone_into(&mut self.execution_id);
        self.controls = text(content, "role") == "controller";
        self.next_seq = number(content, "resume_from").unwrap_or(0) + 1;
    }

    fn count(&mut self, frame: &Frame) -> Result<()> {
        let (first, last) = match frame.kind {
            Kind::Gap => (number(&frame.content, "from"), number(&frame.content, "to")),
            _ => (frame.seq, frame.seq),
        };
        match last {
            Some(last) if first == Some(self.next_seq) => {
                self.next_seq = last + 1;
                Ok(())
            }
            _ => {
                Err(disordered("seq does not follow the last one").with("expected", self.next_seq))
            }
        }
    }
}

fn text<'a>(content: &'a Value, name: &str) -> &'a str {
    content.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn number(content: &Value, name: &str) -> Option<u64> {
    content.get(name).and_then(Value::as_int).and_then(|number| u64::try_from(number).ok())
}
