//! Manifests instead of a cluster: what `tonnage plan` and `tonnage explain` read.
//!
//! Given YAML or JSON documents, or objects listed from a cluster; given back a snapshot, in which
//! the pods that templates would make exist and wait. Nothing is defaulted that the API server would
//! not default, and what is not understood is named.

mod admission;
mod expand;
mod live;
mod missing;
mod nulls;
mod read;
mod refused;
mod world;

pub use expand::MOST_PODS;
pub use live::{LiveError, read_cluster};
pub use missing::{first_few, warnings};
pub use read::{Document, ManifestError, read_files, read_text};
pub use world::{Manifests, Unknown};
