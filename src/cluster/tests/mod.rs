//! The cluster side against an API server that answers from a script.

mod script;
mod terms;
mod watching;
mod writing;
