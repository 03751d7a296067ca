//! One end of a connection of `theory.run.v1`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use theory_core::protocol::Connection;

use crate::error::guard;
use crate::frames::{side, spoken, wire};
use crate::json::to_python;

pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<RunProtocol>()
}

/// One end of one connection; the lock lets several threads share it.
#[pyclass(module = "theory_core", frozen)]
struct RunProtocol(Mutex<Connection>);

#[pymethods]
impl RunProtocol {
    #[new]
    fn new(side: &Bound<'_, PyAny>) -> PyResult<Self> {
        guard(side.py(), || Ok(Self(Mutex::new(Connection::new(self::side(side)?)))))
    }

    #[pyo3(signature = (frame, /))]
    fn receive<'py>(&self, frame: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = frame.py();
        let frame = guard(py, || {
            let bytes = wire(frame)?;
            py.detach(|| self.lock().receive(&bytes))
        })?;
        to_python(py, frame.into_value())
    }

    #[pyo3(signature = (kind, content, *, seq = None))]
    fn send<'py>(
        &self,
        kind: &Bound<'py, PyAny>,
        content: &Bound<'py, PyAny>,
        seq: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let py = kind.py();
        let bytes = guard(py, || {
            let (kind, seq, content) = spoken(kind, seq, content)?;
            py.detach(|| self.lock().send(kind, seq, content))
        })?;
        Ok(PyBytes::new(py, &bytes))
    }

    #[getter]
    fn phase(&self) -> &'static str {
        self.lock().phase().as_str()
    }

    #[getter]
    fn next_seq(&self) -> u64 {
        self.lock().next_seq()
    }
}

impl RunProtocol {
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
