//! The verifier: reads an export line by line and names the first place where it is not sound.
//!
//! A line is the canonical `{"event":…,"hash":"b3:…"}` and ends with a line feed. Each line is
//! judged against the hash that the line before it *states*, so lines are judged in parallel and
//! one wrong line is one fault. Laws, where they are asked for, are judged after that, in order.

mod line;
mod report;

use std::io::Read;

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Code, Error, Result};
use crate::laws::Judge;
use line::Line;
pub use report::{Expectations, Fault, Reason, Report, Start};

/// Longest line that is read, without its line feed; a longer one is no line of an export.
pub const EXPORT_LINE_BYTES: usize = 8 << 20;

/// Bytes that are collected before their lines are judged.
const BLOCK_BYTES: usize = 4 << 20;

/// From this many lines on, several threads judge faster than one.
const PARALLEL_LINES: usize = 512;

/// Judges one export that arrives in pieces.
#[derive(Debug)]
pub struct Verifier {
    expect: Expectations,
    threads: usize,
    pool: Option<ThreadPool>,
    rest: Vec<u8>,
    complete: usize,
    plan: Option<String>,
    at: String,
    prev: Option<[u8; 32]>,
    next_seq: Option<u64>,
    line: u64,
    count: u64,
    fault: Option<Fault>,
    /// What the line of the fault states instead.
    stated: Option<String>,
    judge: Judge,
}

impl Verifier {
    /// A verifier that has read nothing; `threads` bounds its parallelism (none: as many as fit).
    ///
    /// # Errors
    /// `ERR_INPUTS` for zero threads, and for laws on a part that does not start at seq 1.
    pub fn new(expect: Expectations, threads: Option<usize>) -> Result<Self> {
        if threads == Some(0) {
            return Err(Error::new(Code::Inputs, "threads must be at least 1"));
        }
        if expect.laws && !matches!(expect.start, Start::First) {
            let message = "laws hold from the first event on; a part cannot be judged by them";
            return Err(Error::new(Code::Inputs, message));
        }
        let (prev, next_seq) = match &expect.start {
            Start::First => (None, Some(1)),
            Start::After { seq, hash } => (Some(*hash), seq.map(|seq| seq.saturating_add(1))),
        };
        Ok(Self {
            expect,
            threads: threads.unwrap_or_default(),
            pool: None,
            rest: Vec::new(),
            complete: 0,
            plan: None,
            at: String::new(),
            prev,
            next_seq,
            line: 0,
            count: 0,
            fault: None,
            stated: None,
            judge: Judge::default(),
        })
    }

    /// Takes the next bytes; says whether more can still change the report.
    pub fn feed(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() && self.fault.is_none() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES));
            bytes = later;
            if let Some(last) = now.iter().rposition(|&byte| byte == b'\n') {
                self.complete = self.rest.len() + last + 1;
            }
            self.rest.extend_from_slice(now);
            let overlong = self.rest.len() - self.complete > EXPORT_LINE_BYTES;
            if overlong || (self.complete > 0 && self.rest.len() >= BLOCK_BYTES) {
                self.judge_block();
            }
        }
        self.fault.is_none()
    }

    /// Takes one line, with or without its line feed; a line feed inside it is a syntax fault.
    pub fn feed_line(&mut self, line: &[u8]) -> bool {
        let body = line.strip_suffix(b"\n").unwrap_or(line);
        if body.contains(&b'\n') {
            self.judge_block();
            self.refuse(Reason::Syntax);
            return false;
        }
        self.feed(body) && self.feed(b"\n")
    }

    /// Reads to the end, or to the first fault.
    ///
    /// # Errors
    /// `ERR_STORAGE` when the reader fails.
    pub fn feed_all(&mut self, reader: &mut impl Read) -> Result<()> {
        let mut chunk = vec![0; BLOCK_BYTES / 4];
        loop {
            match reader.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    if !self.feed(&chunk[..count]) {
                        return Ok(());
                    }
                }
                Err(fault) if fault.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Error::new(Code::Storage, "export cannot be read")),
            }
        }
    }

    /// The report on everything that was fed.
    #[must_use]
    pub fn finish(mut self) -> Report {
        self.judge_block();
        if self.fault.is_none() && !self.rest.is_empty() {
            self.refuse(Reason::Syntax); // The last line has no line feed.
        }
        let head = self.head();
        let anchored = self.expect.head.is_some() && head == self.expect.head;
        if self.count == 0 && !self.expect.allow_empty && self.fault.is_none() {
            self.stated = Some("there is no event".to_owned());
            self.refuse(Reason::Gap);
        }
        if self.expect.head.is_some() && !anchored {
            self.refuse(Reason::Head);
        }
        let anchored = anchored && self.fault.is_none();
        Report {
            count: self.count,
            head,
            anchored,
            laws: self.expect.laws,
            fault: self.fault,
            stated: self.stated,
        }
    }

    /// Seq and hash of the last sound event.
    fn head(&self) -> Option<(u64, [u8; 32])> {
        if self.count == 0 { None } else { self.next_seq.map(|seq| seq - 1).zip(self.prev) }
    }

    /// Judges the complete lines that wait, and keeps what follows them.
    fn judge_block(&mut self) {
        if self.fault.is_some() {
            return;
        }
        let mut block = std::mem::take(&mut self.rest);
        let end = std::mem::take(&mut self.complete);
        let lines: Vec<&[u8]> = block[..end].split_inclusive(|&byte| byte == b'\n').collect();
        for line in self.read_lines(&lines) {
            self.line += 1;
            if let Err(reason) = line.and_then(|line| self.accept(line)) {
                self.fault = Some(Fault { seq: self.next_seq, line: self.line, reason });
                return;
            }
        }
        block.drain(..end);
        if block.len() > EXPORT_LINE_BYTES {
            self.refuse(Reason::Syntax);
        }
        self.rest = block;
    }

    /// Everything about each line that does not depend on more than the line before it.
    fn read_lines(&mut self, lines: &[&[u8]]) -> Vec<std::result::Result<Line, Reason>> {
        if self.threads != 1 && self.pool.is_none() && lines.len() >= PARALLEL_LINES {
            // The threads end with the verifier: a pool that outlives it would be missing after a
            // fork. Where none can be had, one thread gives the same report.
            let most = std::thread::available_parallelism().map_or(1, usize::from);
            let threads = self.threads.min(most);
            self.pool = ThreadPoolBuilder::new().num_threads(threads).build().ok();
        }
        let (first, laws) = (self.prev, self.expect.laws);
        let read = |index: usize| {
            let prev = match index.checked_sub(1) {
                Some(before) => line::stated_hash(lines[before]),
                None => first,
            };
            Line::read(lines[index], prev.as_ref(), laws)
        };
        match &self.pool {
            Some(pool) => pool.install(|| (0..lines.len()).into_par_iter().map(read).collect()),
            None => (0..lines.len()).map(read).collect(),
        }
    }

    /// Puts a line behind those before it: plan, gap, order, hash, head, then kind, data and laws.
    fn accept(&mut self, line: Line) -> std::result::Result<(), Reason> {
        if self.plan.as_ref().is_some_and(|plan| *plan != line.plan) {
            return Err(Reason::Plan);
        }
        let follows = match self.next_seq {
            Some(next) => line.seq == next,
            None => line.seq > 1,
        };
        if !follows {
            self.stated = Some(self.found(line.seq));
            return Err(Reason::Gap);
        }
        self.next_seq = Some(line.seq);
        if line.at < self.at {
            return Err(Reason::Order);
        }
        if !line.hash_holds {
            return Err(Reason::Hash);
        }
        match self.expect.head {
            Some((seq, _)) if line.seq > seq => return Err(Reason::Head),
            Some((seq, hash)) if line.seq == seq && line.hash != hash => return Err(Reason::Head),
            _ => {}
        }
        if let Some(fact) = line.fact {
            self.stated = line.stranger.map(|kind| format!("no event is a {kind}"));
            self.judge.take(fact?).map_err(Reason::Law)?;
        }
        self.plan.get_or_insert(line.plan);
        self.at = line.at;
        self.prev = Some(line.hash);
        self.next_seq = Some(line.seq.saturating_add(1));
        self.count += 1;
        Ok(())
    }

    /// The seq that stands where another belongs, and what to do about a part.
    fn found(&self, seq: u64) -> String {
        if self.line == 1 && self.next_seq == Some(1) {
            let needs = "needs the hash before it, and laws need the first event";
            return format!("a part from seq {seq} on {needs}");
        }
        format!("the line is of seq {seq}")
    }

    /// Records a fault behind the last line, unless there is one already.
    fn refuse(&mut self, reason: Reason) {
        let line = self.line + 1;
        self.fault.get_or_insert(Fault { seq: self.next_seq, line, reason });
    }
}
