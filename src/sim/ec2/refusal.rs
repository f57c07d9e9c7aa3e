//! What EC2 says when it does not do what it was asked.

/// The code of a call that found its bucket empty.
pub(super) const THROTTLED: &str = "RequestLimitExceeded";

/// A refusal, as every call may get one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// EC2's code.
    pub code: &'static str,
    /// For people.
    pub message: String,
    /// The HTTP status it comes with.
    pub status: u16,
}

impl Refusal {
    /// The request is wrong, or speaks of something that is not there.
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            status: 400,
        }
    }

    /// Too many calls.
    pub(super) fn throttled() -> Self {
        Self {
            status: 503,
            ..Self::new(THROTTLED, "Request limit exceeded.")
        }
    }

    /// A fault of EC2.
    pub(super) fn internal() -> Self {
        Self {
            status: 500,
            ..Self::new("InternalError", "An internal error has occurred")
        }
    }

    /// The caller may not do it.
    pub(super) fn unauthorized(message: impl Into<String>) -> Self {
        Self {
            status: 403,
            ..Self::new("UnauthorizedOperation", message)
        }
    }

    /// An instance that EC2 does not know.
    pub(super) fn no_instance(id: &str) -> Self {
        Self::no_instances(&[id])
    }

    /// Instances that EC2 does not know.
    pub(super) fn no_instances(ids: &[&str]) -> Self {
        let (word, verb) = match ids {
            [_one] => ("ID", "does"),
            _ => ("IDs", "do"),
        };
        Self::new(
            "InvalidInstanceID.NotFound",
            format!("The instance {word} '{}' {verb} not exist", ids.join(", ")),
        )
    }

    /// A placement group that EC2 does not know.
    pub(super) fn no_placement_group(name: &str) -> Self {
        Self::new(
            "InvalidPlacementGroup.Unknown",
            format!("The Placement Group '{name}' is unknown."),
        )
    }

    /// A launch template that EC2 does not know.
    pub(super) fn no_template(name: &str) -> Self {
        Self::new(
            "InvalidLaunchTemplateName.NotFoundException",
            format!("there is no launch template {name}"),
        )
    }
}
