//! The catalogue of error codes.

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use theory_core::catalogue::CATALOGUE;

pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let rows = CATALOGUE
        .iter()
        .map(|entry| (entry.name, entry.status, entry.retryable, entry.summary, entry.remedy));
    module.add("CATALOGUE", PyTuple::new(module.py(), rows)?)
}
