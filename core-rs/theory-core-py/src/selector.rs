//! Selectors: what a transition writes and a lease holds.

use pyo3::prelude::*;
use pyo3::types::PyString;
use theory_core::Error;
use theory_core::selector::{self, Kind};

use crate::error::{guard, wrong_type};
use crate::path::{WorldPath, read};

pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Selector>()?;
    module.add_function(wrap_pyfunction!(check_writable, module)?)
}

/// A path and whether it means itself or everything below it.
#[derive(Clone, PartialEq, Eq, Hash)]
#[pyclass(module = "theory_core", frozen, eq, hash, skip_from_py_object)]
pub(crate) struct Selector(selector::Selector);

#[pymethods]
impl Selector {
    #[new]
    #[pyo3(signature = (kind, path, root = None))]
    fn new(
        kind: &Bound<'_, PyAny>,
        path: &Bound<'_, PyAny>,
        root: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        guard(kind.py(), || {
            let kind = kind.cast::<PyString>().map_err(|_| wrong_type("kind is not a str"))?;
            let kind = Kind::parse(kind.to_str().unwrap_or_default())?;
            let path = read(path, root)?;
            selector::Selector::new(kind, path.0.as_ref().clone()).map(Self)
        })
    }

    #[getter]
    fn kind(&self) -> &'static str {
        self.0.kind().as_str()
    }

    #[getter]
    fn path(&self) -> WorldPath {
        self.0.path().clone().into()
    }

    #[pyo3(signature = (other, /))]
    fn contains(&self, other: &Bound<'_, PyAny>) -> PyResult<bool> {
        guard(other.py(), || Ok(self.0.contains(&existing(other)?.0)))
    }

    #[pyo3(signature = (other, /))]
    fn overlaps(&self, other: &Bound<'_, PyAny>) -> PyResult<bool> {
        guard(other.py(), || Ok(self.0.overlaps(&existing(other)?.0)))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let path = PyString::new(py, &self.0.path().to_string());
        Ok(format!("Selector('{}', {})", self.kind(), path.repr()?))
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> (Bound<'py, PyAny>, (&'static str, String)) {
        (py.get_type::<Self>().into_any(), (self.kind(), self.0.path().to_string()))
    }
}

#[pyfunction]
#[pyo3(signature = (selector, /))]
fn check_writable(selector: &Bound<'_, PyAny>) -> PyResult<()> {
    guard(selector.py(), || selector::check_writable(&existing(selector)?.0))
}

fn existing(other: &Bound<'_, PyAny>) -> Result<Selector, Error> {
    let selector = other.cast::<Selector>().map_err(|_| wrong_type("not a Selector"))?;
    Ok(selector.get().clone())
}
