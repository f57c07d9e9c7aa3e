//! Why a call to the API server failed, as what to do next.

use std::time::Duration;

use super::operation::Operation;

/// What a failure means for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WriteErrorClass {
    /// The object changed meanwhile: look again, then decide again.
    Conflict,
    /// The object, or the very one that was meant, is not there any more.
    Gone,
    /// Another object has the name.
    AlreadyExists,
    /// A PodDisruptionBudget does not allow the eviction now: try again later.
    Blocked,
    /// The credentials are not accepted, or may not do it: a person must change that.
    Forbidden,
    /// The API server refuses the object as it is: repeating it is no use.
    Invalid,
    /// Too many calls: try again later.
    Throttled,
    /// No answer, or a fault of the API server: it may or may not have taken effect; try again.
    Transient,
    /// `--mode observe` holds: nothing may be written.
    ReadOnly,
    /// This controller does not lead: nothing may be written, and what was on its way may or may not
    /// have taken effect.
    NotLeading,
}

impl WriteErrorClass {
    /// Its name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Gone => "gone",
            Self::AlreadyExists => "already_exists",
            Self::Blocked => "blocked",
            Self::Forbidden => "forbidden",
            Self::Invalid => "invalid",
            Self::Throttled => "throttled",
            Self::Transient => "transient",
            Self::ReadOnly => "read_only",
            Self::NotLeading => "not_leading",
        }
    }

    /// True when the very same call may succeed in a moment.
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Throttled | Self::Transient)
    }
}

/// A call to the API server failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation} {object}: {message}")]
pub struct WriteError {
    /// Which call.
    pub operation: Operation,
    /// The object, `name` or `namespace/name`.
    pub object: String,
    /// What to do about it.
    pub class: WriteErrorClass,
    /// What the API server said and what would fix it.
    pub message: String,
}

impl WriteError {
    /// True when the object is not there any more.
    pub fn is_gone(&self) -> bool {
        self.class == WriteErrorClass::Gone
    }

    /// True when the object changed meanwhile.
    pub fn is_conflict(&self) -> bool {
        self.class == WriteErrorClass::Conflict
    }

    pub(in crate::cluster) fn new(
        operation: Operation,
        object: &str,
        class: WriteErrorClass,
        message: impl Into<String>,
    ) -> Self {
        Self {
            operation,
            object: object.to_owned(),
            class,
            message: message.into(),
        }
    }

    /// The failure of one attempt, and how long the API server asks to wait.
    pub(in crate::cluster) fn classify(
        operation: Operation,
        object: &str,
        error: &kube::Error,
    ) -> (Self, Option<Duration>) {
        let kube::Error::Api(status) = error else {
            let class = match error {
                kube::Error::SerdeError(_) | kube::Error::BuildRequest(_) => {
                    WriteErrorClass::Invalid
                }
                _ => WriteErrorClass::Transient,
            };
            return (Self::new(operation, object, class, error.to_string()), None);
        };
        let details = status.details.as_ref();
        let retry_after = details
            .map(|details| details.retry_after_seconds)
            .filter(|seconds| *seconds > 0)
            .map(|seconds| Duration::from_secs(u64::from(seconds)));
        let class = match status.code {
            404 | 410 => WriteErrorClass::Gone,
            409 if status.reason == "AlreadyExists" => WriteErrorClass::AlreadyExists,
            409 => WriteErrorClass::Conflict,
            401 | 403 => WriteErrorClass::Forbidden,
            400 | 405 | 406 | 413 | 415 | 422 => WriteErrorClass::Invalid,
            429 if operation == Operation::EvictPod && names_a_budget(status) => {
                WriteErrorClass::Blocked
            }
            // The API server's answer when two budgets cover one pod: no eviction can succeed.
            500 if operation == Operation::EvictPod
                && status.message.contains("more than one PodDisruptionBudget") =>
            {
                WriteErrorClass::Blocked
            }
            429 => WriteErrorClass::Throttled,
            _ => WriteErrorClass::Transient,
        };
        let message = if status.code == 401 {
            format!(
                "the credentials are not accepted; check the ServiceAccount's token or the \
                 kubeconfig ({})",
                status.message
            )
        } else if class == WriteErrorClass::Forbidden {
            let (verb, group, resource) = operation.permission();
            let chart = operation.chart_value().map_or_else(String::new, |value| {
                format!(", which the chart does where {value} is true")
            });
            format!(
                "not allowed; give the ServiceAccount the verb {verb} on {resource} of API group \
                 \"{group}\"{chart} ({})",
                status.message
            )
        } else {
            status.message.clone()
        };
        (Self::new(operation, object, class, message), retry_after)
    }
}

fn names_a_budget(status: &kube::core::Status) -> bool {
    status.message.contains("disruption budget")
        || status.details.as_ref().is_some_and(|details| {
            details
                .causes
                .iter()
                .any(|cause| cause.reason == "DisruptionBudget")
        })
}
