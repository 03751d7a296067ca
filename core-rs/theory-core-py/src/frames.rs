//! Frames of `theory.run.v1`.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use theory_core::frames::{Frame, Kind, SUBPROTOCOL, Sender};
use theory_core::json::Value;
use theory_core::limits::FRAME_BYTES;
use theory_core::{Code, Error};

use crate::envelope::text;
use crate::error::{guard, wrong_type};
use crate::json::{to_python, to_value};

pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("RUN_SUBPROTOCOL", SUBPROTOCOL)?;
    module.add_function(wrap_pyfunction!(validate_frame, module)?)?;
    module.add_function(wrap_pyfunction!(encode_frame, module)?)
}

#[pyfunction]
#[pyo3(signature = (frame, /, direction))]
fn validate_frame<'py>(
    frame: &Bound<'py, PyAny>,
    direction: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = frame.py();
    let valid = guard(py, || {
        let sender = side(direction)?;
        let bytes = wire(frame)?;
        py.detach(|| Frame::read(&bytes, sender))
    })?;
    to_python(py, valid.into_value())
}

#[pyfunction]
#[pyo3(signature = (kind, content, *, seq = None))]
fn encode_frame<'py>(
    kind: &Bound<'py, PyAny>,
    content: &Bound<'py, PyAny>,
    seq: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyBytes>> {
    let py = kind.py();
    let bytes = guard(py, || {
        let (kind, seq, content) = spoken(kind, seq, content)?;
        py.detach(|| Frame::new(kind, seq, content).and_then(Frame::encode))
    })?;
    Ok(PyBytes::new(py, &bytes))
}

/// Kind, seq and content of a frame to send.
pub(crate) fn spoken(
    kind: &Bound<'_, PyAny>,
    seq: Option<&Bound<'_, PyAny>>,
    content: &Bound<'_, PyAny>,
) -> Result<(Kind, Option<u64>, Value), Error> {
    let name = text(kind, "kind is not a str")?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == name);
    let kind = kind.ok_or_else(|| wrong_type("kind is no kind of frame"))?;
    let seq = seq.map(PyAnyMethods::extract::<u64>).transpose();
    let seq = seq.map_err(|_| wrong_type("seq is not a count"))?;
    Ok((kind, seq, to_value(content)?))
}

/// The bytes of a text frame, given as str or bytes.
pub(crate) fn wire(frame: &Bound<'_, PyAny>) -> Result<Vec<u8>, Error> {
    let bytes = if let Ok(bytes) = frame.cast::<PyBytes>() {
        bytes.as_bytes()
    } else {
        let text = frame.cast::<PyString>().ok().and_then(|text| text.to_str().ok());
        text.ok_or_else(|| wrong_type("frame is neither bytes nor a str"))?.as_bytes()
    };
    // One byte more than allowed suffices to be refused for its size.
    Ok(bytes[..bytes.len().min(FRAME_BYTES + 1)].to_vec())
}

/// Who speaks: `client` or `server`.
pub(crate) fn side(side: &Bound<'_, PyAny>) -> Result<Sender, Error> {
    match text(side, "side is not a str")?.as_str() {
        "client" => Ok(Sender::Client),
        "server" => Ok(Sender::Server),
        _ => Err(Error::new(Code::Inputs, "side is neither client nor server")),
    }
}
