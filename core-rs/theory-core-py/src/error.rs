//! The one conversion of the core's errors to `theory_core.TheoryError`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};
use theory_core::{Code, Detail, Error};

/// Runs the body of a public function; whatever goes wrong becomes a `TheoryError`.
///
/// A panic of the core is a defect: it surfaces as `ERR_INTERNAL` and leaves no state behind.
pub(crate) fn guard<T>(py: Python<'_>, body: impl FnOnce() -> Result<T, Error>) -> PyResult<T> {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(result) => result.map_err(|error| raised(py, &error)),
        Err(_) => Err(raised(py, &Error::new(Code::Internal, "the core failed an invariant"))),
    }
}

/// The exception for an error of the core.
pub(crate) fn raised(py: Python<'_>, error: &Error) -> PyErr {
    match exception(py, error) {
        Ok(exception) | Err(exception) => exception,
    }
}

fn exception(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let detail = PyDict::new(py);
    for (key, fact) in &error.detail {
        match fact {
            Detail::Int(number) => detail.set_item(key, number)?,
            Detail::Text(text) => detail.set_item(key, text)?,
        }
    }
    let class = CLASS.import(py, "theory_core.error", "TheoryError")?;
    let arguments = (error.code.as_str(), error.message.as_ref(), detail);
    Ok(PyErr::from_value(class.call1(arguments)?))
}

/// Refusal of an argument of the wrong Python type.
pub(crate) fn wrong_type(message: &'static str) -> Error {
    Error::new(Code::Inputs, message)
}
