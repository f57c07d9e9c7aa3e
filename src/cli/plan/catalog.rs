//! A catalog file: a JSON list of offerings that stands for everything that can be bought.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use serde::Deserialize;

use crate::model::money::UsdPerHour;
use crate::model::offering::{
    CapacityType, Catalogue, InstanceType, Offering, OfferingKey, Outlook,
};
use crate::model::quantity;
use crate::model::resources::Resources;

/// Volumes that a node may attach beside its root volume when the file does not say.
const DEFAULT_VOLUMES: u32 = 26;

/// Why a catalog file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum CatalogError {
    /// It cannot be read.
    #[error("the catalog file {path} cannot be read; check that it exists and is readable")]
    Unreadable {
        /// The file.
        path: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// It is not a JSON list of offerings.
    #[error("the catalog file {path} is not a JSON list of offerings")]
    Syntax {
        /// The file.
        path: String,
        /// Where and what.
        source: serde_json::Error,
    },
    /// An entry cannot be used.
    #[error("the catalog file {path}, entry {entry} ({instance_type}): {problem}")]
    Entry {
        /// The file.
        path: String,
        /// Counted from 1.
        entry: usize,
        /// Its type.
        instance_type: String,
        /// What is wrong.
        problem: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    instance_type: String,
    zone: String,
    capacity_type: String,
    usd_per_hour: Amount,
    fees_usd_per_hour: Option<Amount>,
    capacity: BTreeMap<String, Amount>,
    #[serde(default)]
    overhead: BTreeMap<String, Amount>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default = "yes")]
    available: bool,
    volume_limit: Option<u32>,
}

const fn yes() -> bool {
    true
}

/// A number or a text that holds one.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Amount {
    Text(String),
    Number(serde_json::Number),
}

impl Amount {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
        }
    }
}

/// Reads a catalog file.
pub(in crate::cli) fn read(path: &Path) -> Result<Catalogue, CatalogError> {
    let shown = path.display().to_string();
    let text = fs::read_to_string(path).map_err(|source| CatalogError::Unreadable {
        path: shown.clone(),
        source,
    })?;
    let entries: Vec<Entry> =
        serde_json::from_str(&text).map_err(|source| CatalogError::Syntax {
            path: shown.clone(),
            source,
        })?;
    let mut catalogue = Catalogue::default();
    for (index, entry) in entries.iter().enumerate() {
        add(&mut catalogue, entry).map_err(|problem| CatalogError::Entry {
            path: shown.clone(),
            entry: index + 1,
            instance_type: entry.instance_type.clone(),
            problem,
        })?;
    }
    catalogue
        .offerings
        .sort_by(|left, right| left.key.cmp(&right.key));
    Ok(catalogue)
}

fn add(catalogue: &mut Catalogue, entry: &Entry) -> Result<(), String> {
    let capacity_type = CapacityType::parse(&entry.capacity_type).ok_or_else(|| {
        format!(
            "capacityType `{}` is unknown: use on-demand, spot or reserved",
            entry.capacity_type
        )
    })?;
    let key = OfferingKey::new(&entry.instance_type, &entry.zone, capacity_type);
    if catalogue
        .offerings
        .iter()
        .any(|offering| offering.key == key)
    {
        return Err(format!("{key} is there twice"));
    }
    let mut labels = entry.labels.clone();
    labels
        .entry("kubernetes.io/os".to_owned())
        .or_insert_with(|| "linux".to_owned());
    labels
        .entry("kubernetes.io/arch".to_owned())
        .or_insert_with(|| "amd64".to_owned());
    let instance = InstanceType {
        name: Arc::clone(&key.instance_type),
        labels,
        capacity: amounts(&entry.capacity)?,
        overhead: amounts(&entry.overhead)?,
        volume_limit: entry.volume_limit.unwrap_or(DEFAULT_VOLUMES),
    };
    if let Some(known) = catalogue.types.get(&key.instance_type)
        && **known != instance
    {
        return Err(
            "capacity, overhead or labels differ from an earlier entry of the same type".to_owned(),
        );
    }
    catalogue
        .types
        .insert(Arc::clone(&key.instance_type), Arc::new(instance));
    catalogue.offerings.push(Offering {
        key,
        price: price(&entry.usd_per_hour)?,
        fees: entry
            .fees_usd_per_hour
            .as_ref()
            .map_or(Ok(UsdPerHour::ZERO), price)?,
        available: entry.available,
        outlook: Outlook::default(),
    });
    Ok(())
}

fn price(amount: &Amount) -> Result<UsdPerHour, String> {
    UsdPerHour::parse(&amount.text()).map_err(|error| error.to_string())
}

fn amounts(list: &BTreeMap<String, Amount>) -> Result<Resources, String> {
    list.iter()
        .map(|(name, amount)| {
            quantity::amount(name, &amount.text())
                .map(|count| (name.as_str(), count))
                .map_err(|error| format!("{name}: {error}"))
        })
        .collect()
}
