//! Envelopes, judged and built.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use theory_core::envelope::{self, Expect};
use theory_core::json::Value;
use theory_core::path::{PlanAddress, WorldPath as Path};
use theory_core::{Error, facts};

use crate::error::{guard, wrong_type};
use crate::json::{to_python, to_value, with_text};
use crate::path::WorldPath;

pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(validate_envelope, module)?)?;
    module.add_function(wrap_pyfunction!(success_envelope, module)?)?;
    module.add_function(wrap_pyfunction!(error_envelope, module)?)
}

#[pyfunction]
#[pyo3(signature = (
    envelope, /, *, execution_id = None, write_prefix = None, expected_digest = None
))]
fn validate_envelope<'py>(
    envelope: &Bound<'py, PyAny>,
    execution_id: Option<&Bound<'py, PyAny>>,
    write_prefix: Option<&Bound<'py, PyAny>>,
    expected_digest: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = envelope.py();
    let valid = guard(py, || {
        let id = execution_id.map(|id| text(id, "execution_id is not a str")).transpose()?;
        let prefix = write_prefix.map(relative).transpose()?;
        let digest = expected_digest.map(oci).transpose()?;
        let expect = Expect {
            execution_id: id.as_deref(),
            write_prefix: prefix.as_deref(),
            // The answer to a known request has no digest that the request did not carry.
            image_digest: (id.is_some() || digest.is_some()).then_some(digest.as_deref()),
        };
        let envelope = either(envelope).map_err(|error| envelope::unreadable(&error))?;
        py.detach(|| envelope::validate(envelope, &expect))
    })?;
    to_python(py, valid)
}

#[pyfunction]
#[pyo3(signature = (execution_id, outputs, *, write_prefix, env_fingerprint, image_digest = None))]
fn success_envelope<'py>(
    execution_id: &Bound<'py, PyAny>,
    outputs: &Bound<'py, PyAny>,
    write_prefix: &Bound<'py, PyAny>,
    env_fingerprint: &Bound<'py, PyAny>,
    image_digest: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyBytes>> {
    let py = outputs.py();
    let bytes = guard(py, || {
        let id = text(execution_id, "execution_id is not a str")?;
        let prefix = relative(write_prefix)?;
        let fingerprint = text(env_fingerprint, "env_fingerprint is not a str")?;
        let digest = image_digest.map(oci).transpose()?;
        let Value::Array(outputs) = to_value(outputs)? else {
            return Err(wrong_type("outputs is not a list"));
        };
        py.detach(|| envelope::success(&id, &prefix, outputs, &fingerprint, digest.as_deref()))
    })?;
    Ok(PyBytes::new(py, &bytes))
}

#[pyfunction]
#[pyo3(signature = (execution_id, code, *, env_fingerprint, reason = None, stderr_tail = None))]
fn error_envelope<'py>(
    execution_id: &Bound<'py, PyAny>,
    code: &Bound<'py, PyAny>,
    env_fingerprint: &Bound<'py, PyAny>,
    reason: Option<&Bound<'py, PyAny>>,
    stderr_tail: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyBytes>> {
    let py = code.py();
    let bytes = guard(py, || {
        let id = text(execution_id, "execution_id is not a str")?;
        let code = text(code, "code is not a str")?;
        let fingerprint = text(env_fingerprint, "env_fingerprint is not a str")?;
        let reason = reason.map(|reason| text(reason, "reason is not a str")).transpose()?;
        let tail = stderr_tail.map(lossy).transpose()?;
        envelope::failure(&id, &code, reason.as_deref(), &fingerprint, tail.as_deref())
    })?;
    Ok(PyBytes::new(py, &bytes))
}

/// A JSON value given as an object, or as JSON text in bytes.
fn either(value: &Bound<'_, PyAny>) -> Result<Value, Error> {
    if value.is_instance_of::<PyBytes>() {
        with_text(value, theory_core::json::parse)
    } else {
        to_value(value)
    }
}

/// The text of a str without lone surrogates.
pub(crate) fn text(value: &Bound<'_, PyAny>, message: &'static str) -> Result<String, Error> {
    let text = value.cast::<PyString>().ok().and_then(|text| text.to_str().ok());
    text.map(str::to_owned).ok_or_else(|| wrong_type(message))
}

/// The plan-relative text of a write prefix.
fn relative(prefix: &Bound<'_, PyAny>) -> Result<String, Error> {
    if let Ok(path) = prefix.cast::<WorldPath>() {
        return Ok(path.get().0.relative());
    }
    let any = PlanAddress::parse("/world/any/any")?;
    let path = Path::parse(&text(prefix, "write_prefix is not a path")?, Some(&any))?;
    Ok(path.relative())
}

fn oci(digest: &Bound<'_, PyAny>) -> Result<String, Error> {
    let text = text(digest, "image digest is not a str")?;
    if facts::is_oci(&text) { Ok(text) } else { Err(wrong_type("image digest is no OCI digest")) }
}

/// What a processor wrote, as text; bytes that are no UTF-8 are replaced.
fn lossy(tail: &Bound<'_, PyAny>) -> Result<String, Error> {
    if let Ok(bytes) = tail.cast::<PyBytes>() {
        return Ok(String::from_utf8_lossy(bytes.as_bytes()).into_owned());
    }
    text(tail, "stderr_tail is neither bytes nor a str")
}
