//! The Kubernetes side: objects of the API become model values, and decisions become writes.
//!
//! ```text
//! API server -> watch -> observe -> mirror (+ ledger of own writes) -> View -> Snapshot
//! API server <- apply, events <- decisions
//! ```
//!
//! Nothing here decides anything, and nothing here knows EC2.

pub mod apply;
mod changes;
pub mod client;
pub mod events;
pub(crate) mod intern;
pub mod joining;
mod kind;
pub mod lease;
mod ledger;
pub mod manifests;
mod mirror;
pub mod observe;
mod pulse;
mod rate;
pub mod server_time;
mod slim;
mod stamps;
mod state;
mod table;
#[cfg(test)]
mod tests;
pub mod unlisted;
pub mod version;
mod view;
mod watch;

pub use changes::{Changes, Subscription};
pub use kind::Kind;
pub use mirror::Mirror;
pub use state::KindHealth;
pub use table::ListRecord;
pub use view::{ObservedNodeClass, ObservedNodePool, View};
