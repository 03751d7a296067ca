//! Writes canonical bytes while the text is read: the text door, without a tree between.
//!
//! Members are written as they come. When an object closes whose names came in another order, its
//! members change places: at once if it is short, else once and for all at the end, because what
//! is moved at every level of 256 would be moved 256 times.

use std::cmp::Ordering;
use std::ops::Range;

use crate::error::{Code, Error, Result};
use crate::json::build::misplaced;
use crate::json::order::compare_written;
use crate::json::parse::read;
use crate::json::sink::{Container, Scalar, Sink, Text};
use crate::json::write::push_text;
use crate::number::{push_float, push_int};

/// An object up to this long has its members moved as soon as it closes.
const MOVED_BYTES: usize = 8 << 10;

/// Stands behind a member that is still to be moved; no byte of UTF-8 looks like it.
const END: u8 = 0xff;

/// Canonical bytes of a JSON text (the text door).
///
/// Law: beside the text it holds at most four times the bytes of the text and of the answer.
///
/// # Errors
/// The `ERR_JSON_*` codes of [`read`] and `ERR_JSON_DUPLICATE`, the first in reading order.
pub fn canonicalize_json(text: &[u8]) -> Result<Vec<u8>> {
    let mut writer = Writer::new(text.len());
    let Err(error) = read(text, &mut writer) else {
        return Ok(writer.finish());
    };
    // Names are compared when their object closes, so one that was there before may have been
    // read before this fault; then it is the answer, and a second reading says where it stands.
    let Some(second) = writer.first_duplicate() else {
        return Err(error);
    };
    let mut again = Writer { duplicate: Some(second), ..Writer::new(text.len()) };
    Err(read(text, &mut again).err().unwrap_or(error))
}

/// Canonical bytes in the making.
#[derive(Default)]
struct Writer {
    out: Vec<u8>,
    open: Vec<Frame>,
    /// Where the members of open objects begin in `out`, each object's behind its parent's.
    starts: Vec<usize>,
    /// Closed objects whose members still stand in reading order, the inner before the outer.
    unsorted: Vec<Unsorted>,
    /// Members of one object, and room for them while they change places.
    members: Vec<Range<usize>>,
    room: Vec<u8>,
    /// Where the name begins that is known to be a duplicate.
    duplicate: Option<usize>,
}

/// A container that is being written.
enum Frame {
    Array,
    Object { at: usize, first: usize, sorted: bool },
}

/// A closed object in `out`, and where its members begin, in the order of their names.
struct Unsorted {
    place: Range<usize>,
    members: Vec<usize>,
}

impl Writer {
    fn new(bytes: usize) -> Self {
        Self { out: Vec::with_capacity(bytes), ..Self::default() }
    }

    /// A comma, if this is an element and not the first.
    fn separate(&mut self) {
        if matches!(self.open.last(), Some(Frame::Array)) && self.out.last() != Some(&b'[') {
            self.out.push(b',');
        }
    }

    /// Puts the members of the object that begins at `at` and ends here in order; they begin at
    /// `starts[first..]`.
    fn sort(&mut self, at: usize, first: usize) -> Result<()> {
        if self.out.len() - at > MOVED_BYTES {
            self.sort_later(at, first)
        } else {
            self.sort_now(at, first)
        }
    }

    fn sort_now(&mut self, at: usize, first: usize) -> Result<()> {
        let Self { out, starts, members, room, .. } = self;
        let ends = starts[first + 1..].iter().copied().chain([out.len()]);
        members.clear();
        members.extend(starts[first..].iter().zip(ends).map(|(&start, next)| start..next - 1));
        members.sort_unstable_by(|a, b| compare_at(out, a.start, b.start));
        if members.windows(2).any(|pair| compare_at(out, pair[0].start, pair[1].start).is_eq()) {
            return Err(duplicate());
        }
        room.clear();
        for member in members.drain(..) {
            room.extend_from_slice(&out[member]);
            room.push(b',');
        }
        // The bracket at the end stays where it is, and so no comma stands before it.
        room.pop();
        out[at + 1..at + 1 + room.len()].copy_from_slice(room);
        Ok(())
    }

    fn sort_later(&mut self, at: usize, first: usize) -> Result<()> {
        let Self { out, starts, .. } = self;
        let members = &mut starts[first..];
        members.sort_unstable_by(|&a, &b| compare_at(out, a, b));
        if members.windows(2).any(|pair| compare_at(out, pair[0], pair[1]).is_eq()) {
            return Err(duplicate());
        }
        for &member in &*members {
            out[member - 1] = END;
        }
        out[at] = b'{';
        let place = at..out.len();
        out[place.end - 1] = END;
        let members = if first == 0 { std::mem::take(starts) } else { starts.split_off(first) };
        push(&mut self.unsorted, Unsorted { place, members });
        Ok(())
    }

    /// Where in `out` the first name begins that its open object had before.
    fn first_duplicate(mut self) -> Option<usize> {
        let mut earliest = None;
        while let Some(frame) = self.open.pop() {
            let Frame::Object { first, .. } = frame else { continue };
            let Self { out, starts, .. } = &mut self;
            let names = &mut starts[first..];
            names.sort_unstable_by(|&a, &b| compare_at(out, a, b).then(a.cmp(&b)));
            let again = names.windows(2).filter(|pair| compare_at(out, pair[0], pair[1]).is_eq());
            earliest = again.map(|pair| pair[1]).chain(earliest).min();
            self.starts.truncate(first);
        }
        earliest
    }

    fn finish(self) -> Vec<u8> {
        let Self { out, mut unsorted, starts, .. } = self;
        if unsorted.is_empty() {
            return out;
        }
        drop(starts);
        unsorted.sort_unstable_by_key(|object| object.place.start);
        assemble(&out, &unsorted)
    }
}

impl Sink for Writer {
    fn open(&mut self, container: Container) -> Result<()> {
        self.separate();
        let at = self.out.len();
        let (mark, frame) = match container {
            Container::Array => (b'[', Frame::Array),
            Container::Object => {
                (b'{', Frame::Object { at, first: self.starts.len(), sorted: true })
            }
        };
        self.out.push(mark);
        self.open.push(frame);
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        match self.open.last() {
            Some(Frame::Array) => self.out.push(b']'),
            Some(&Frame::Object { at, first, sorted }) => {
                self.out.push(b'}');
                if !sorted {
                    self.sort(at, first)?;
                }
                self.starts.truncate(first);
            }
            None => return Err(misplaced()),
        }
        self.open.pop();
        Ok(())
    }

    fn name(&mut self, name: Text<'_>) -> Result<()> {
        let Some(Frame::Object { first, sorted, .. }) = self.open.last_mut() else {
            return Err(misplaced());
        };
        let before = self.starts.get(*first..).and_then(<[usize]>::last);
        if before.is_some() {
            self.out.push(b',');
        }
        let start = self.out.len();
        if self.duplicate == Some(start) {
            return Err(duplicate());
        }
        push_string(&mut self.out, name);
        if let Some(&before) = before {
            let (done, this) = self.out.split_at(start);
            *sorted = *sorted && compare_written(&done[before + 1..], &this[1..]).is_lt();
        }
        self.out.push(b':');
        push(&mut self.starts, start);
        Ok(())
    }

    fn scalar(&mut self, scalar: Scalar<'_>) -> Result<()> {
        self.separate();
        match scalar {
            Scalar::Null => self.out.extend_from_slice(b"null"),
            Scalar::Bool(true) => self.out.extend_from_slice(b"true"),
            Scalar::Bool(false) => self.out.extend_from_slice(b"false"),
            Scalar::Int(number) => push_int(&mut self.out, number),
            Scalar::Float(number) => push_float(&mut self.out, number),
            Scalar::Text(text) => push_string(&mut self.out, text),
        }
        Ok(())
    }
}

/// Copies what was written, with the members of every unsorted object in the order of names.
///
/// `objects` are sorted by place.
fn assemble(written: &[u8], objects: &[Unsorted]) -> Vec<u8> {
    let mut out = Vec::with_capacity(written.len());
    let mut open: Vec<(usize, std::slice::Iter<'_, usize>)> = Vec::new();
    let mut at = 0;
    loop {
        let next = objects.partition_point(|object| object.place.start < at);
        let stop = objects.get(next).map_or(written.len(), |object| object.place.start);
        let member = &written[at..stop];
        let end = find_end(member);
        out.extend_from_slice(&member[..end]);
        if let Some(object) = objects.get(next).filter(|_| end == member.len()) {
            out.push(b'{');
            open.push((object.place.end, object.members.iter()));
        }
        let Some((behind, members)) = open.last_mut() else { return out };
        at = if let Some(&start) = members.next() {
            if out.last() != Some(&b'{') {
                out.push(b',');
            }
            start
        } else {
            out.push(b'}');
            let behind = *behind;
            open.pop();
            behind
        };
    }
}

/// Order of two members by the names that begin at these places.
fn compare_at(written: &[u8], a: usize, b: usize) -> Ordering {
    compare_written(&written[a + 1..], &written[b + 1..])
}

/// Pushes onto what may be as long as the text, and so grows by a quarter, not by the whole.
fn push<T>(list: &mut Vec<T>, item: T) {
    if list.len() == list.capacity() {
        list.reserve_exact(list.len() / 4 + 16);
    }
    list.push(item);
}

fn find_end(written: &[u8]) -> usize {
    written.iter().position(|&byte| byte == END).unwrap_or(written.len())
}

fn push_string(out: &mut Vec<u8>, text: Text<'_>) {
    if text.is_plain() {
        out.push(b'"');
        out.extend_from_slice(text.as_str().as_bytes());
        out.push(b'"');
    } else {
        push_text(out, text.as_str());
    }
}

fn duplicate() -> Error {
    Error::new(Code::JsonDuplicate, "duplicate member name")
}
