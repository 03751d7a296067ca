//! Builds Python objects while a JSON text is read, without a tree between.

use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyList, PyString};
use theory_core::json::{Container, Scalar, Sink, Text};
use theory_core::{Code, Error};

/// For so long the GIL is held at a stretch: as long as Python's own code holds it by default.
const HELD: Duration = Duration::from_millis(5);
/// So many values are made between two looks at the clock.
const VALUES: u32 = 1024;

/// The object of a JSON value in the making.
pub(crate) struct Objects<'py> {
    py: Python<'py>,
    open: Vec<Filling<'py>>,
    root: Option<Bound<'py, PyAny>>,
    /// What Python raised, for want of memory; the reader has stopped on its account.
    raised: Option<PyErr>,
    values: u32,
    since: Instant,
}

/// A container that is being filled.
enum Filling<'py> {
    List(Bound<'py, PyList>),
    Dict(Bound<'py, PyDict>, Option<Bound<'py, PyString>>),
}

impl<'py> Objects<'py> {
    pub(crate) fn new(py: Python<'py>) -> Self {
        Self { py, open: Vec::new(), root: None, raised: None, values: 0, since: Instant::now() }
    }

    /// The finished object; what Python raised comes before what the reader said.
    pub(crate) fn finish(self, read: PyResult<()>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(raised) = self.raised {
            return Err(raised);
        }
        read.map(|()| self.root.unwrap_or_else(|| self.py.None().into_bound(self.py)))
    }

    fn put(&mut self, value: Bound<'py, PyAny>) -> Result<(), Error> {
        let put = match self.open.last_mut() {
            Some(Filling::List(list)) => list.append(value),
            Some(Filling::Dict(dict, name)) => match name.take() {
                Some(name) => dict.set_item(name, value),
                None => return Err(misplaced()),
            },
            None => {
                self.root = Some(value);
                Ok(())
            }
        };
        self.keep(put)?;
        self.yield_gil();
        Ok(())
    }

    /// Remembers what Python raised, and stops the reader.
    fn keep<T>(&mut self, result: PyResult<T>) -> Result<T, Error> {
        result.map_err(|raised| {
            self.raised = Some(raised);
            Error::new(Code::Internal, "Python refused an object")
        })
    }

    /// Lets other threads have the GIL now and then: a long text takes long.
    fn yield_gil(&mut self) {
        self.values += 1;
        if self.values >= VALUES {
            self.values = 0;
            if self.since.elapsed() >= HELD {
                self.py.detach(|| ());
                self.since = Instant::now();
            }
        }
    }
}

impl Sink for Objects<'_> {
    fn open(&mut self, container: Container) -> Result<(), Error> {
        let (object, filling) = match container {
            Container::Array => {
                let list = PyList::empty(self.py);
                (list.clone().into_any(), Filling::List(list))
            }
            Container::Object => {
                let dict = PyDict::new(self.py);
                (dict.clone().into_any(), Filling::Dict(dict, None))
            }
        };
        self.put(object)?;
        self.open.push(filling);
        Ok(())
    }

    fn close(&mut self) -> Result<(), Error> {
        self.open.pop().map(|_| ()).ok_or_else(misplaced)
    }

    fn name(&mut self, name: Text<'_>) -> Result<(), Error> {
        let name = PyString::new(self.py, name.as_str());
        let Some(Filling::Dict(dict, next)) = self.open.last_mut() else {
            return Err(misplaced());
        };
        let known = dict.contains(&name);
        *next = Some(name);
        if self.keep(known)? {
            return Err(Error::new(Code::JsonDuplicate, "duplicate member name"));
        }
        Ok(())
    }

    fn scalar(&mut self, scalar: Scalar<'_>) -> Result<(), Error> {
        let value = match scalar {
            Scalar::Null => self.py.None().into_bound(self.py),
            Scalar::Bool(flag) => PyBool::new(self.py, flag).to_owned().into_any(),
            Scalar::Int(number) => {
                let Ok(number) = number.into_pyobject(self.py);
                number.into_any()
            }
            Scalar::Float(number) => PyFloat::new(self.py, number).into_any(),
            Scalar::Text(text) => PyString::new(self.py, text.as_str()).into_any(),
        };
        self.put(value)
    }
}

fn misplaced() -> Error {
    Error::new(Code::JsonSyntax, "value or name out of place")
}
