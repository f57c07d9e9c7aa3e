//! Packing instances on disk.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::BenchError;
use crate::model::money::UNITS_PER_USD;
use crate::plan::pack::{Bits, Item, Machine, Problem};

/// A problem and its name.
#[derive(Debug)]
pub(super) struct Instance {
    /// The name.
    pub(super) name: String,
    /// The problem.
    pub(super) problem: Problem,
}

#[derive(Debug, Deserialize)]
struct Written {
    name: String,
    dims: Vec<String>,
    catalogue: String,
    gpu_offerings: bool,
    classes: Vec<Class>,
}

#[derive(Debug, Deserialize)]
struct Class {
    size: Vec<i64>,
    count: u32,
}

#[derive(Debug, Deserialize)]
struct Offering {
    price: f64,
    cap: Vec<i64>,
    gpu: i64,
}

impl Instance {
    /// Reads an instance and the catalogue that it names, which is beside it.
    pub(super) fn read(path: &Path) -> Result<Self, BenchError> {
        let written: Written = read_json(path)?;
        let beside = path.with_file_name(&written.catalogue);
        let offerings: Vec<Offering> = read_json(&beside)?;
        let machines: Vec<Machine> = offerings
            .into_iter()
            .filter(|offering| written.gpu_offerings || offering.gpu == 0)
            .map(|offering| Machine {
                price: units(offering.price),
                capacity: offering.cap,
            })
            .collect();
        let everywhere = Bits::full(machines.len());
        let items = written
            .classes
            .into_iter()
            .map(|class| Item {
                size: class.size,
                count: class.count,
                allowed: everywhere.clone(),
                relations: Vec::new(),
            })
            .collect();
        Ok(Self {
            name: written.name,
            problem: Problem {
                dimensions: written.dims.len(),
                items,
                machines,
            },
        })
    }
}

/// Reads a JSON file.
pub(super) fn read_json<Value: DeserializeOwned>(path: &Path) -> Result<Value, BenchError> {
    let unreadable = |reason: String| BenchError::Read {
        path: path.display().to_string(),
        reason,
    };
    let text = fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))
}

/// Catalogue prices have at most six decimals, so rounding finds the very price that is meant.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "prices are far below 2^53 units"
)]
fn units(dollars: f64) -> i64 {
    (dollars * UNITS_PER_USD as f64).round() as i64
}
