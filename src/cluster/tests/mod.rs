//! The cluster side against an API server that answers from a script.

mod script;
mod watching;
mod writing;
