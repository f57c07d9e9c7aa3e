//! The Kubernetes side: objects of the API become model values, and decisions become writes.

pub mod observe;
