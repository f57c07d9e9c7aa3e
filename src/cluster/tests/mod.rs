//! The cluster side against an API server that answers from a script.

mod claims;
mod deleting;
mod joining;
mod pods;
mod script;
mod terms;
mod version;
mod watching;
mod writing;
