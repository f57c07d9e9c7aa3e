//! What happened, in order: the record that equal seeds must give byte for byte.
//!
//! Given events as they happen; given back lines of JSON with the virtual time, and a running hash
//! of all of them. Lines of people's interest are kept; requests only go into the hash unless all
//! are asked for, because a day has many of them. Whoever listens gets them all.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use crate::world::Clock;

/// One line of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// RFC 3339.
    pub at: String,
    /// A word for what happened, for example `PodBound`.
    pub event: &'static str,
    /// The rest of it.
    pub fields: Map<String, Value>,
}

impl Line {
    /// The line as JSON: `at` and `event` first, then the fields in name order.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{{\"at\":{},\"event\":{}",
            json!(self.at),
            json!(self.event)
        );
        for (name, value) in &self.fields {
            text.push_str(&format_args!(",{}:{value}", json!(name)).to_string());
        }
        text.push('}');
        text
    }
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// What people ask about: pods, nodes, instances, decisions.
    Events,
    /// Every request as well.
    Requests,
}

#[derive(Debug)]
struct Record {
    clock: Arc<dyn Clock>,
    detail: Detail,
    lines: Vec<Line>,
    listeners: Vec<mpsc::UnboundedSender<Line>>,
    hash: u64,
    count: u64,
}

/// The record; clones share it.
#[derive(Debug, Clone)]
pub struct History(Arc<Mutex<Record>>);

impl History {
    /// An empty record.
    pub fn new(clock: Arc<dyn Clock>, detail: Detail) -> Self {
        Self(Arc::new(Mutex::new(Record {
            clock,
            detail,
            lines: Vec::new(),
            listeners: Vec::new(),
            // FNV-1a's offset basis.
            hash: 0xcbf2_9ce4_8422_2325,
            count: 0,
        })))
    }

    fn locked(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records what people ask about.
    pub fn event(&self, event: &'static str, fields: Value) {
        self.add(Detail::Events, event, fields);
    }

    /// Records a request to the API server or to EC2.
    pub fn request(&self, event: &'static str, fields: Value) {
        self.add(Detail::Requests, event, fields);
    }

    fn add(&self, detail: Detail, event: &'static str, fields: Value) {
        let mut record = self.locked();
        let Value::Object(fields) = fields else {
            return;
        };
        let line = Line {
            at: record.clock.now().to_string(),
            event,
            fields,
        };
        for byte in line.text().bytes() {
            record.hash = (record.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        record.count += 1;
        record
            .listeners
            .retain(|listener| listener.send(line.clone()).is_ok());
        if detail <= record.detail {
            record.lines.push(line);
        }
    }

    /// The time that a line would have now.
    pub fn now(&self) -> Timestamp {
        self.locked().clock.now()
    }

    /// Every line from now on, requests included.
    pub fn listen(&self) -> mpsc::UnboundedReceiver<Line> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.locked().listeners.push(sender);
        receiver
    }

    /// Hash over all lines so far, kept or not, and their number.
    pub fn digest(&self) -> (u64, u64) {
        let record = self.locked();
        (record.hash, record.count)
    }

    /// How many lines were kept.
    pub fn len(&self) -> usize {
        self.locked().lines.len()
    }

    /// True before anything happened.
    pub fn is_empty(&self) -> bool {
        self.locked().lines.is_empty()
    }

    /// The kept lines from a position on.
    pub fn since(&self, position: usize) -> Vec<Line> {
        let record = self.locked();
        record.lines.get(position..).unwrap_or_default().to_vec()
    }
}
