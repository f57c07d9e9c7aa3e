//! Answers that refuse a request, in the API server's words.

use serde_json::{Value, json};

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason} ({code}): {message}")]
pub struct Refusal {
    /// HTTP status.
    pub code: u16,
    /// Machine-readable reason; empty where the real server gives none.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// `details.causes`, as `(reason, message)`.
    pub cause: Option<(&'static str, String)>,
    /// How long the client should wait, seconds.
    pub retry_after: Option<u32>,
}

impl Refusal {
    /// A refusal from its parts.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            cause: None,
            retry_after: None,
        }
    }

    /// 404.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, "NotFound", message)
    }

    /// 409: the object changed, or another has its place.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(409, "Conflict", message)
    }

    /// 422: the object is not acceptable.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(422, "Invalid", message)
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// The `Status` object that the server answers with.
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = json!(self.reason);
        }
        if self.cause.is_some() || self.retry_after.is_some() {
            let causes: Vec<Value> = self
                .cause
                .iter()
                .map(|(reason, message)| json!({ "reason": reason, "message": message }))
                .collect();
            status["details"] = json!({ "causes": causes });
            if let Some(seconds) = self.retry_after {
                status["details"]["retryAfterSeconds"] = json!(seconds);
            }
        }
        status
    }
}
