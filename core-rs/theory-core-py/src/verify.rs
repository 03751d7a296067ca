//! The verifier of exports, fed piece by piece.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use theory_core::digest::written;
use theory_core::laws::Law;
use theory_core::verify::{self, Expectations, Start};
use theory_core::{Code, Error};

use crate::chain::{hash, head};
use crate::error::{guard, wrong_type};

pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Verifier>()
}

/// Count, head, anchored, fault and verdict.
type Answer = (u64, Option<Head>, bool, Option<Fault>, String);
type Head = (u64, String);
/// Seq, reason, line, law and member.
type Fault = (Option<u64>, &'static str, u64, Option<&'static str>, Option<&'static str>);

/// Judges one export; empty once it has answered.
#[pyclass(module = "theory_core", frozen)]
struct Verifier(Mutex<Option<verify::Verifier>>);

#[pymethods]
impl Verifier {
    #[new]
    #[pyo3(signature = (expect_head, expect_prev, allow_empty, laws, threads))]
    fn new(
        py: Python<'_>,
        expect_head: Option<&Bound<'_, PyAny>>,
        expect_prev: Option<&Bound<'_, PyAny>>,
        allow_empty: bool,
        laws: bool,
        threads: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        guard(py, || {
            let start = expect_prev.map_or(Ok(Start::First), start)?;
            let head = expect_head.map(head).transpose()?;
            let expect = Expectations { head, start, allow_empty, laws };
            let threads = threads.map(PyAnyMethods::extract::<usize>).transpose();
            let threads = threads.map_err(|_| wrong_type("threads is not a positive int"))?;
            Ok(Self(Mutex::new(Some(verify::Verifier::new(expect, threads)?))))
        })
    }

    #[pyo3(signature = (data, /))]
    fn feed(&self, data: &Bound<'_, PyBytes>) -> PyResult<bool> {
        self.take_in(data, verify::Verifier::feed)
    }

    #[pyo3(signature = (line, /))]
    fn feed_line(&self, line: &Bound<'_, PyBytes>) -> PyResult<bool> {
        self.take_in(line, verify::Verifier::feed_line)
    }

    fn finish(&self, py: Python<'_>) -> PyResult<Answer> {
        guard(py, || {
            let report = py.detach(|| {
                let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
                taken.map(verify::Verifier::finish).ok_or_else(finished)
            })?;
            let verdict = report.verdict();
            let head = report.head.map(|(seq, hash)| (seq, written(&hash)));
            let fault = report.fault.map(|fault| {
                let reason = fault.reason;
                let law = reason.law().map(Law::as_str);
                (fault.seq, reason.as_str(), fault.line, law, reason.member())
            });
            Ok((report.count, head, report.anchored, fault, verdict))
        })
    }
}

impl Verifier {
    fn take_in(
        &self,
        data: &Bound<'_, PyBytes>,
        feed: fn(&mut verify::Verifier, &[u8]) -> bool,
    ) -> PyResult<bool> {
        let py = data.py();
        let bytes = data.as_bytes();
        guard(py, || {
            py.detach(|| {
                let mut lock = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                lock.as_mut().map(|verifier| feed(verifier, bytes)).ok_or_else(finished)
            })
        })
    }
}

/// Where the export starts: behind a hash, or behind a seq and a hash.
fn start(prev: &Bound<'_, PyAny>) -> Result<Start, Error> {
    if prev.is_instance_of::<PyString>() {
        return Ok(Start::After { seq: None, hash: hash(prev)? });
    }
    head(prev).map(|(seq, hash)| Start::After { seq: Some(seq), hash })
}

fn finished() -> Error {
    Error::new(Code::Inputs, "the verifier has answered already")
}
