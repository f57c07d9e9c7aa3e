//! The adapter for the real EC2, with the AWS SDK, against the simulated EC2 on the wire: in one process
//! and in virtual time.
//!
//! The contract tests are those that run against the independent endpoint over HTTP, from the same
//! files; beside them is what only this endpoint can do: markets, policies, lost answers, slow pages.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod announcements;
mod catalogue;
mod consistency;
mod control_plane;
mod credentials;
mod endpoint;
#[path = "../cloud/images.rs"]
mod images;
#[path = "../cloud/instances.rs"]
mod instances;
mod interfaces;
#[path = "../cloud/launches.rs"]
mod launches;
mod losses;
mod markets;
mod placement_groups;
mod port;
mod prices;
#[path = "../cloud/profiles.rs"]
mod profiles;
mod proxies;
mod rehearsals;
mod reservations;
#[path = "../cloud/resolution.rs"]
mod resolution;
mod rights;
#[path = "../cloud/scene.rs"]
mod scene;
mod subnets;
mod switches;
#[path = "../cloud/templates.rs"]
mod templates;
#[path = "../waiting/mod.rs"]
mod waiting;
mod whole;
