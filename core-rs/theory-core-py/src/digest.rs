//! Digests of bytes and files.

use std::fs::File;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use theory_core::digest::{self, HASH_SCHEMA};
use theory_core::{Code, Error};

use crate::DETACH_BYTES;
use crate::error::{guard, wrong_type};

pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("HASH_SCHEMA", HASH_SCHEMA)?;
    module.add_class::<Hasher>()?;
    module.add_function(wrap_pyfunction!(digest_bytes, module)?)?;
    module.add_function(wrap_pyfunction!(digest_file, module)?)
}

#[pyfunction(name = "digest")]
#[pyo3(signature = (data, /))]
fn digest_bytes(data: &Bound<'_, PyAny>) -> PyResult<String> {
    guard(data.py(), || with_bytes(data, digest::digest))
}

#[pyfunction]
#[pyo3(signature = (path, *, threads = None))]
fn digest_file(path: &Bound<'_, PyAny>, threads: Option<&Bound<'_, PyAny>>) -> PyResult<String> {
    let py = path.py();
    guard(py, || {
        let path = path.extract::<PathBuf>().map_err(|_| wrong_type("path is not a path"))?;
        let threads = threads.map(PyAnyMethods::extract::<usize>).transpose();
        let threads = threads.map_err(|_| wrong_type("threads is not a positive int"))?;
        py.detach(|| {
            let mut file = File::open(path).map_err(|fault| match fault.kind() {
                ErrorKind::NotFound => Error::new(Code::NotFound, "no such file"),
                _ => Error::new(Code::Storage, "file cannot be opened"),
            })?;
            digest::digest_reader(&mut file, threads)
        })
    })
}

/// Incremental digest; the lock lets several threads share one.
#[pyclass(module = "theory_core", frozen)]
struct Hasher(Mutex<digest::Hasher>);

#[pymethods]
impl Hasher {
    #[new]
    fn new() -> Self {
        Self(Mutex::new(digest::Hasher::new()))
    }

    #[pyo3(signature = (data, /))]
    fn update(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let add = |data: &[u8]| self.0.lock().unwrap_or_else(PoisonError::into_inner).update(data);
        guard(data.py(), || with_bytes(data, add))
    }

    fn digest(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).digest()
    }
}

/// Runs `read` on the bytes of a buffer; one that others may change is copied before.
fn with_bytes<T: Send>(
    data: &Bound<'_, PyAny>,
    read: impl FnOnce(&[u8]) -> T + Send,
) -> Result<T, Error> {
    let py = data.py();
    let copy;
    let bytes = if let Ok(bytes) = data.cast::<PyBytes>() {
        bytes.as_bytes()
    } else {
        let buffer = PyBuffer::<u8>::get(data).and_then(|buffer| buffer.to_vec(py));
        copy = buffer.map_err(|_| wrong_type("data is not bytes"))?;
        &copy
    };
    Ok(if bytes.len() < DETACH_BYTES { read(bytes) } else { py.detach(|| read(bytes)) })
}
