//! Contract tests of the EC2 adapter against an EC2 endpoint over HTTP.
//!
//! `hack/test cloud` starts the endpoint with its fault proxy and sets the environment. The endpoint
//! is one account, so tests take turns; each works for a cluster of its own and reads nothing of
//! another's.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod control_plane;
mod endpoint;
mod images;
mod instances;
mod launches;
mod notices;
mod own_images;
mod profiles;
mod resolution;
mod scene;
mod templates;
#[path = "../waiting/mod.rs"]
mod waiting;
