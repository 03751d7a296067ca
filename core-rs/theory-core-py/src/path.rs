//! WorldPaths, write prefixes and output sets.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use theory_core::path::{self, PlanAddress, is_name};
use theory_core::unicode::UNICODE;
use theory_core::{Code, Error, outputs, template};

use crate::error::{guard, wrong_type};

pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("UNICODE", UNICODE)?;
    module.add("FACETS", PyTuple::new(module.py(), path::FACETS)?)?;
    module.add_class::<WorldPath>()?;
    module.add_function(wrap_pyfunction!(check_outputs, module)?)?;
    module.add_function(wrap_pyfunction!(resolve_outputs, module)?)?;
    module.add_function(wrap_pyfunction!(expand_prefix, module)?)?;
    module.add_function(wrap_pyfunction!(valid_name, module)?)
}

/// A canonical path of the World.
#[derive(Clone, PartialEq, Eq, Hash)]
#[pyclass(module = "theory_core", frozen, eq, hash, from_py_object)]
pub(crate) struct WorldPath(pub(crate) Arc<path::WorldPath>);

impl From<path::WorldPath> for WorldPath {
    fn from(path: path::WorldPath) -> Self {
        Self(Arc::new(path))
    }
}

#[pymethods]
impl WorldPath {
    #[new]
    #[pyo3(signature = (text, root = None))]
    fn new(text: &Bound<'_, PyAny>, root: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        guard(text.py(), || read(text, root))
    }

    #[getter]
    fn tenant(&self) -> &str {
        self.0.tenant()
    }

    #[getter]
    fn plan(&self) -> &str {
        self.0.plan()
    }

    #[getter]
    fn root(&self) -> String {
        self.0.root().to_string()
    }

    #[getter]
    fn facet(&self) -> &'static str {
        self.0.facet()
    }

    #[getter]
    fn segments<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.0.segments())
    }

    #[getter]
    fn is_prefix(&self) -> bool {
        self.0.is_prefix()
    }

    #[getter]
    fn uri(&self) -> String {
        self.0.uri()
    }

    #[getter]
    fn relative(&self) -> String {
        self.0.relative()
    }

    #[pyo3(signature = (rel, /))]
    fn join(&self, rel: &Bound<'_, PyAny>) -> PyResult<Self> {
        guard(rel.py(), || {
            let bytes = raw(rel, "rel is not a str")?;
            self.0.join_bytes(&bytes).map(Self::from)
        })
    }

    #[pyo3(signature = (other, /))]
    fn contains(&self, other: &Bound<'_, PyAny>) -> PyResult<bool> {
        guard(other.py(), || Ok(self.0.contains(&existing(other)?.0)))
    }

    #[pyo3(signature = (other, /))]
    fn overlaps(&self, other: &Bound<'_, PyAny>) -> PyResult<bool> {
        guard(other.py(), || Ok(self.0.overlaps(&existing(other)?.0)))
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("WorldPath({})", PyString::new(py, &self.0.to_string()).repr()?))
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> (Bound<'py, PyAny>, (String,)) {
        (py.get_type::<Self>().into_any(), (self.0.to_string(),))
    }
}

#[pyfunction]
#[pyo3(signature = (template, execution_id, root = None))]
fn expand_prefix(
    template: &Bound<'_, PyAny>,
    execution_id: &Bound<'_, PyAny>,
    root: Option<&Bound<'_, PyAny>>,
) -> PyResult<WorldPath> {
    guard(template.py(), || {
        let text = raw(template, "template is not a str")?;
        let text = std::str::from_utf8(&text).map_err(|_| not_unicode())?;
        let id = raw(execution_id, "execution_id is not a str")?;
        let id = std::str::from_utf8(&id).map_err(|_| wrong_type("invalid execution id"))?;
        let root = root.map(address).transpose()?;
        template::expand_prefix(text, id, root.as_ref()).map(WorldPath::from)
    })
}

#[pyfunction]
#[pyo3(signature = (paths, /))]
fn check_outputs(paths: &Bound<'_, PyAny>) -> PyResult<()> {
    guard(paths.py(), || {
        let paths = paths.extract::<Vec<WorldPath>>();
        let paths = paths.map_err(|_| wrong_type("paths is not a list of WorldPath"))?;
        let paths: Vec<&path::WorldPath> = paths.iter().map(|path| &*path.0).collect();
        outputs::check_outputs(&paths)
    })
}

#[pyfunction]
#[pyo3(signature = (prefix, rels, /))]
fn resolve_outputs(prefix: &Bound<'_, PyAny>, rels: &Bound<'_, PyAny>) -> PyResult<Vec<WorldPath>> {
    guard(prefix.py(), || {
        let prefix = existing(prefix)?;
        let rels = rels.extract::<Vec<Bound<'_, PyAny>>>();
        let rels = rels.map_err(|_| wrong_type("rels is not a list of str"))?;
        let rels = rels.iter().map(|rel| raw(rel, "rels is not a list of str"));
        let rels = rels.collect::<Result<Vec<_>, _>>()?;
        let paths = outputs::resolve_outputs(&prefix.0, &rels)?;
        Ok(paths.into_iter().map(WorldPath::from).collect())
    })
}

#[pyfunction(name = "is_name")]
#[pyo3(signature = (text, /))]
fn valid_name(text: &Bound<'_, PyAny>) -> bool {
    let text = text.cast::<PyString>().ok();
    text.and_then(|text| text.to_str().ok()).is_some_and(is_name)
}

/// A path given as a `WorldPath` or as text.
pub(crate) fn read(
    text: &Bound<'_, PyAny>,
    root: Option<&Bound<'_, PyAny>>,
) -> Result<WorldPath, Error> {
    if let Ok(path) = text.cast::<WorldPath>() {
        return Ok(path.get().clone());
    }
    let bytes = raw(text, "path is not a str")?;
    let root = root.map(address).transpose()?;
    path::WorldPath::parse_bytes(&bytes, root.as_ref()).map(WorldPath::from)
}

fn existing(other: &Bound<'_, PyAny>) -> Result<WorldPath, Error> {
    let path = other.cast::<WorldPath>().map_err(|_| wrong_type("not a WorldPath"))?;
    Ok(path.get().clone())
}

/// The plan that a root argument means: its address as text, or any path inside it.
fn address(root: &Bound<'_, PyAny>) -> Result<PlanAddress, Error> {
    if let Ok(path) = root.cast::<WorldPath>() {
        return Ok(path.get().0.root().clone());
    }
    let bytes = raw(root, "root is neither a str nor a WorldPath")?;
    PlanAddress::parse(std::str::from_utf8(&bytes).map_err(|_| not_unicode())?)
}

/// UTF-8 of a str; where it holds surrogates, bytes that are no UTF-8.
fn raw(text: &Bound<'_, PyAny>, message: &'static str) -> Result<Vec<u8>, Error> {
    let text = text.cast::<PyString>().map_err(|_| wrong_type(message))?;
    if let Ok(text) = text.to_str() {
        return Ok(text.as_bytes().to_vec());
    }
    let bytes = text.call_method1("encode", ("utf-8", "surrogatepass"));
    bytes.and_then(|bytes| bytes.extract::<Vec<u8>>()).map_err(|_| not_unicode())
}

fn not_unicode() -> Error {
    Error::new(Code::PathSyntax, "path is not Unicode text")
}
