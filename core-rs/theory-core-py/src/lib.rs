//! The module `theory_core._core`: each pure module of the core, as Python sees it.

mod catalogue;
mod chain;
mod digest;
mod envelope;
mod error;
mod frames;
mod json;
mod objects;
mod path;
mod protocol;
mod selector;
mod verify;

use pyo3::prelude::*;
use pyo3::types::PyDict;

/// From this many bytes on, work that needs no Python object runs without the GIL.
pub(crate) const DETACH_BYTES: usize = 64 << 10;

#[pymodule(gil_used = true)]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    json::add(module)?;
    digest::add(module)?;
    path::add(module)?;
    selector::add(module)?;
    catalogue::add(module)?;
    chain::add(module)?;
    verify::add(module)?;
    envelope::add(module)?;
    frames::add(module)?;
    protocol::add(module)?;
    let limits = PyDict::new(module.py());
    for (name, value) in theory_core::limits::LIMITS {
        limits.set_item(name, value)?;
    }
    module.add("LIMITS", limits)
}
