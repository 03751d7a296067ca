//! The chain of events, their hashes, and execution ids.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};
use theory_core::chain::{self, Link, Sealed};
use theory_core::ids::{self, check_plan};
use theory_core::json::Value;
use theory_core::{Error, digest, event};

use crate::DETACH_BYTES;
use crate::error::{guard, wrong_type};
use crate::json::{measured, to_value};

pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("EVENT_VERSION", event::VERSION)?;
    module.add_class::<Chain>()?;
    module.add_function(wrap_pyfunction!(event_hash, module)?)?;
    module.add_function(wrap_pyfunction!(execution_id, module)?)
}

#[pyfunction]
#[pyo3(signature = (prev, event, /))]
fn event_hash(prev: Option<&Bound<'_, PyAny>>, event: &Bound<'_, PyAny>) -> PyResult<String> {
    guard(event.py(), || {
        let prev = prev.map(hash).transpose()?;
        let event = match event.cast::<PyBytes>() {
            Ok(bytes) => chain::read_stored(bytes.as_bytes())?,
            Err(_) => to_value(event)?,
        };
        chain::hash_one(prev, &event).map(|hash| digest::written(&hash))
    })
}

#[pyfunction]
#[pyo3(signature = (plan, transition, attempt))]
fn execution_id(
    plan: &Bound<'_, PyAny>,
    transition: &Bound<'_, PyAny>,
    attempt: &Bound<'_, PyAny>,
) -> PyResult<String> {
    guard(plan.py(), || {
        let plan = text(plan).ok_or_else(|| wrong_type("plan is not a str"))?;
        let transition = text(transition).ok_or_else(|| wrong_type("transition is not a str"))?;
        let attempt = attempt.extract().map_err(|_| wrong_type("attempt is not an int"))?;
        ids::execution_id(&plan, &transition, attempt)
    })
}

/// The growing end of one plan's ledger; the lock lets several threads share it.
#[pyclass(module = "theory_core", frozen)]
struct Chain(Mutex<chain::Chain>);

#[pymethods]
impl Chain {
    #[new]
    #[pyo3(signature = (prev = None, *, plan = None))]
    fn new(
        py: Python<'_>,
        prev: Option<&Bound<'_, PyAny>>,
        plan: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        guard(py, || {
            let plan = plan.map(address).transpose()?;
            Ok(Self(Mutex::new(chain::Chain::new(prev.map(link).transpose()?, plan))))
        })
    }

    #[pyo3(signature = (events, /))]
    fn append<'py>(&self, events: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
        let py = events.py();
        let sealed = guard(py, || {
            let (events, bytes) = values(events)?;
            let append = || self.0.lock().unwrap_or_else(PoisonError::into_inner).append(&events);
            if bytes < DETACH_BYTES { append() } else { py.detach(append) }
        })?;
        let rows = sealed
            .iter()
            .map(|Sealed { bytes, hash }| (PyBytes::new(py, bytes), digest::written(hash)));
        PyList::new(py, rows)
    }

    #[getter]
    fn plan(&self) -> Option<String> {
        self.read(|chain| chain.plan().map(str::to_owned))
    }

    #[getter]
    fn seq(&self) -> Option<u64> {
        self.read(|chain| chain.last().map_or(Some(0), |last| last.seq))
    }

    #[getter]
    fn hash(&self) -> Option<String> {
        self.read(|chain| chain.last().map(|last| digest::written(&last.hash)))
    }

    #[getter]
    fn at(&self) -> Option<String> {
        self.read(|chain| chain.last().and_then(|last| last.at.clone()))
    }
}

impl Chain {
    fn read<T>(&self, read: impl FnOnce(&chain::Chain) -> T) -> T {
        read(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Values of a list of Python objects, and roughly their bytes; an error names the object's place.
fn values(events: &Bound<'_, PyAny>) -> Result<(Vec<Value>, usize), Error> {
    let events = events.extract::<Vec<Bound<'_, PyAny>>>();
    let events = events.map_err(|_| wrong_type("events is not a list"))?;
    let mut bytes = 0;
    let value = |(index, event)| {
        let (value, size) = measured(event).map_err(|error| error.with("index", index))?;
        bytes += size;
        Ok(value)
    };
    let values = events.iter().enumerate().map(value).collect::<Result<_, Error>>()?;
    Ok((values, bytes))
}

/// The last event: its hash, or a tuple of seq, hash and, if known, time stamp.
fn link(prev: &Bound<'_, PyAny>) -> Result<Link, Error> {
    if prev.is_instance_of::<PyString>() {
        return Ok(Link { seq: None, hash: hash(prev)?, at: None });
    }
    let (seq, hash) = head(prev)?;
    let at = match prev.get_item(2) {
        Ok(at) if !at.is_none() => {
            let at = text(&at).filter(|at| event::is_time(at));
            Some(at.ok_or_else(|| wrong_type("prev has no valid time stamp"))?)
        }
        _ => None,
    };
    Ok(Link { seq: Some(seq), hash, at })
}

/// Seq and hash out of a tuple that starts with these two.
pub(crate) fn head(pair: &Bound<'_, PyAny>) -> Result<(u64, [u8; 32]), Error> {
    let refused = || wrong_type("not a pair of seq and hash");
    if !(pair.is_instance_of::<PyTuple>() || pair.is_instance_of::<PyList>()) {
        return Err(refused());
    }
    let seq = pair.get_item(0).and_then(|seq| seq.extract::<u64>()).map_err(|_| refused())?;
    let written = pair.get_item(1).map_err(|_| refused())?;
    if seq == 0 { Err(refused()) } else { Ok((seq, hash(&written)?)) }
}

/// The bytes of a written hash.
pub(crate) fn hash(written: &Bound<'_, PyAny>) -> Result<[u8; 32], Error> {
    let text = text(written).ok_or_else(|| wrong_type("hash is not a str"))?;
    digest::read(&text)
}

fn address(plan: &Bound<'_, PyAny>) -> Result<String, Error> {
    let plan = text(plan).ok_or_else(|| wrong_type("plan is not a str"))?;
    check_plan(&plan).map(|()| plan)
}

/// The text of a str without lone surrogates.
fn text(value: &Bound<'_, PyAny>) -> Option<String> {
    value.cast::<PyString>().ok().and_then(|text| text.to_str().map(str::to_owned).ok())
}
