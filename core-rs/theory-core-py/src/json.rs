//! Both doors of canonical JSON: Python objects and JSON text.

use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use theory_core::json::{self, Builder, Value};
use theory_core::{Code, Error, number};

use crate::DETACH_BYTES;
use crate::error::guard;
use crate::objects::Objects;

pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(canonicalize, module)?)?;
    module.add_function(wrap_pyfunction!(canonicalize_json, module)?)?;
    module.add_function(wrap_pyfunction!(loads_strict, module)?)?;
    module.add_function(wrap_pyfunction!(inputs_hash, module)?)
}

#[pyfunction]
#[pyo3(signature = (obj, /))]
fn canonicalize<'py>(obj: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let py = obj.py();
    guard(py, || canonical_object(obj)).map(|bytes| PyBytes::new(py, &bytes))
}

#[pyfunction]
#[pyo3(signature = (obj, /))]
fn inputs_hash(obj: &Bound<'_, PyAny>) -> PyResult<String> {
    guard(obj.py(), || canonical_object(obj).map(|bytes| theory_core::digest::digest(&bytes)))
}

#[pyfunction]
#[pyo3(signature = (data, /))]
fn canonicalize_json<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let py = data.py();
    let bytes = guard(py, || with_text(data, json::canonicalize_json))?;
    Ok(PyBytes::new(py, &bytes))
}

#[pyfunction]
#[pyo3(signature = (data, /))]
fn loads_strict<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let mut objects = Objects::new(data.py());
    let read = guard(data.py(), || json::read(text(data)?, &mut objects));
    objects.finish(read)
}

/// Canonical bytes of a Python object.
pub(crate) fn canonical_object(obj: &Bound<'_, PyAny>) -> Result<Vec<u8>, Error> {
    let (value, bytes) = measured(obj)?;
    Ok(if bytes < DETACH_BYTES {
        json::canonical(&value)
    } else {
        obj.py().detach(|| json::canonical(&value))
    })
}

/// Runs `read` on the bytes of a JSON text given as `bytes` or `str`.
pub(crate) fn with_text<T: Send>(
    data: &Bound<'_, PyAny>,
    read: impl FnOnce(&[u8]) -> Result<T, Error> + Send,
) -> Result<T, Error> {
    let bytes = text(data)?;
    if bytes.len() < DETACH_BYTES { read(bytes) } else { data.py().detach(|| read(bytes)) }
}

fn text<'a>(data: &'a Bound<'_, PyAny>) -> Result<&'a [u8], Error> {
    if let Ok(bytes) = data.cast::<PyBytes>() {
        Ok(bytes.as_bytes())
    } else if let Ok(text) = data.cast::<PyString>() {
        text.to_str().map(str::as_bytes).map_err(|_| lone_surrogate())
    } else {
        Err(Error::new(Code::JsonType, "a JSON text is bytes or str"))
    }
}

/// The value of a Python object (spec: canonical JSON, object door).
pub(crate) fn to_value(obj: &Bound<'_, PyAny>) -> Result<Value, Error> {
    measured(obj).map(|(value, _)| value)
}

/// A container whose rest is still to be read, copied when it was opened.
enum Open<'py> {
    Items(std::vec::IntoIter<Bound<'py, PyAny>>),
    Members(std::vec::IntoIter<(Bound<'py, PyAny>, Bound<'py, PyAny>)>),
}

/// The value and roughly its size in bytes.
///
/// Reading runs no Python code: containers and scalars are read as their base type, past any
/// override, so nobody can change them meanwhile.
pub(crate) fn measured(obj: &Bound<'_, PyAny>) -> Result<(Value, usize), Error> {
    let mut builder = Builder::new();
    let mut bytes = 0;
    let mut open: Vec<Open<'_>> = Vec::new();
    open.extend(feed(&mut builder, obj, &mut bytes)?);
    while let Some(container) = open.last_mut() {
        let next = match container {
            Open::Items(items) => items.next(),
            Open::Members(members) => match members.next() {
                Some((name, value)) => {
                    let name = name.cast::<PyString>().map_err(|_| bad_name())?;
                    let name = name.to_str().map_err(|_| lone_surrogate())?;
                    bytes += name.len();
                    builder.name(name.to_owned())?;
                    Some(value)
                }
                None => None,
            },
        };
        if let Some(value) = next {
            open.extend(feed(&mut builder, &value, &mut bytes)?);
        } else {
            builder.close()?;
            open.pop();
        }
    }
    Ok((builder.finish()?, bytes))
}

fn feed<'py>(
    builder: &mut Builder,
    obj: &Bound<'py, PyAny>,
    bytes: &mut usize,
) -> Result<Option<Open<'py>>, Error> {
    *bytes += 8;
    if let Ok(text) = obj.cast::<PyString>() {
        let text = text.to_str().map_err(|_| lone_surrogate())?;
        *bytes += text.len();
        builder.text(text.to_owned())?;
    } else if let Ok(flag) = obj.cast::<PyBool>() {
        builder.bool(flag.is_true())?;
    } else if let Ok(number) = obj.cast::<PyInt>() {
        builder.integer(small(number)?)?;
    } else if let Ok(number) = obj.cast::<PyFloat>() {
        builder.float(number.value())?;
    } else if let Ok(dict) = obj.cast::<PyDict>() {
        builder.open_object()?;
        return Ok(Some(Open::Members(dict.iter().collect::<Vec<_>>().into_iter())));
    } else if let Ok(list) = obj.cast::<PyList>() {
        builder.open_array()?;
        return Ok(Some(Open::Items(list.iter().collect::<Vec<_>>().into_iter())));
    } else if let Ok(tuple) = obj.cast::<PyTuple>() {
        builder.open_array()?;
        return Ok(Some(Open::Items(tuple.iter().collect::<Vec<_>>().into_iter())));
    } else if obj.is_none() {
        builder.null()?;
    } else {
        return Err(no_json_form(obj));
    }
    Ok(None)
}

fn small(number: &Bound<'_, PyInt>) -> Result<i64, Error> {
    number.extract::<i64>().map_err(|error| {
        debug_assert!(error.is_instance_of::<PyOverflowError>(number.py()), "an int is an int");
        number::unsafe_integer()
    })
}

fn no_json_form(obj: &Bound<'_, PyAny>) -> Error {
    let error = Error::new(Code::JsonType, "value of a type that has no JSON form");
    let name = obj.get_type().name().ok().and_then(|name| name.extract::<String>().ok());
    let plain = |name: &String| {
        name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    match name.filter(plain) {
        Some(name) => error.with("type", name),
        None => error,
    }
}

fn bad_name() -> Error {
    Error::new(Code::JsonType, "member name is not a str")
}

fn lone_surrogate() -> Error {
    Error::new(Code::JsonUnicode, "text contains a lone surrogate")
}

/// A Python container that is being filled.
enum Filling<'py> {
    List(Bound<'py, PyList>, std::vec::IntoIter<Value>),
    Dict(Bound<'py, PyDict>, std::vec::IntoIter<(String, Value)>),
}

/// The Python object of a value.
pub(crate) fn to_python(py: Python<'_>, value: Value) -> PyResult<Bound<'_, PyAny>> {
    let mut open: Vec<Filling<'_>> = Vec::new();
    let root = unfold(py, value, &mut open)?;
    while let Some(container) = open.pop() {
        match container {
            Filling::List(list, mut rest) => {
                if let Some(value) = rest.next() {
                    open.push(Filling::List(list.clone(), rest));
                    list.append(unfold(py, value, &mut open)?)?;
                }
            }
            Filling::Dict(dict, mut rest) => {
                if let Some((name, value)) = rest.next() {
                    open.push(Filling::Dict(dict.clone(), rest));
                    dict.set_item(name, unfold(py, value, &mut open)?)?;
                }
            }
        }
    }
    Ok(root)
}

/// A scalar, or an empty container that is queued to be filled.
fn unfold<'py>(
    py: Python<'py>,
    value: Value,
    open: &mut Vec<Filling<'py>>,
) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(flag) => PyBool::new(py, flag).to_owned().into_any(),
        Value::Int(number) => number.into_pyobject(py)?.into_any(),
        Value::Float(number) => PyFloat::new(py, number).into_any(),
        Value::Str(text) => PyString::new(py, &text).into_any(),
        Value::Array(items) => {
            let list = PyList::empty(py);
            open.push(Filling::List(list.clone(), items.into_iter()));
            list.into_any()
        }
        Value::Object(members) => {
            let dict = PyDict::new(py);
            open.push(Filling::Dict(dict.clone(), members.into_iter()));
            dict.into_any()
        }
    })
}
