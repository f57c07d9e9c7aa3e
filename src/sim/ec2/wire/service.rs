//! The services that are served, and how each writes what it answers.
//!
//! Given what was done, or why not; given back a body. EC2 and IAM write XML, each in its own shape, SQS, SSM
//! and the price list write JSON; each has its own words for what may befall any call.

use serde_json::{Value, json};

use super::answer::{self, Element};
use crate::sim::ec2::refusal::{Refusal, THROTTLED};

/// A service of AWS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Ec2,
    Iam,
    Pricing,
    Sqs,
    Ssm,
}

/// What an operation answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    Elements(Vec<Element>),
    Json(Value),
}

impl Service {
    /// The content type of its answers.
    pub(super) const fn kind(self) -> &'static str {
        match self {
            Self::Ec2 | Self::Iam => "text/xml;charset=UTF-8",
            Self::Pricing | Self::Ssm => "application/x-amz-json-1.1",
            Self::Sqs => "application/x-amz-json-1.0",
        }
    }

    /// The prefix of its actions in policies.
    pub(super) const fn prefix(self) -> &'static str {
        match self {
            Self::Ec2 => "ec2",
            Self::Iam => "iam",
            Self::Pricing => "pricing",
            Self::Sqs => "sqs",
            Self::Ssm => "ssm",
        }
    }

    /// It takes and gives JSON, and the operation is in a header.
    pub(super) const fn speaks_json(self) -> bool {
        matches!(self, Self::Pricing | Self::Sqs | Self::Ssm)
    }

    /// The body of an answer.
    pub(super) fn written(self, operation: &str, request: &str, content: Content) -> String {
        match content {
            Content::Json(value) => value.to_string(),
            Content::Elements(elements) if self == Self::Iam => {
                answer::iam_document(operation, request, elements)
            }
            Content::Elements(elements) => answer::document(operation, request, elements),
        }
    }

    /// The body of a refusal.
    pub(super) fn refusal(self, refusal: &Refusal, request: &str) -> String {
        let refusal = Refusal {
            code: self.code(refusal.code),
            ..refusal.clone()
        };
        match self {
            Self::Ec2 => answer::refusal(&refusal, request),
            Self::Iam => answer::iam_refusal(&refusal, request),
            Self::Pricing | Self::Sqs | Self::Ssm => {
                json!({ "__type": refusal.code, "message": refusal.message }).to_string()
            }
        }
    }

    /// Its word for what EC2 has a code for. Source: "Common Errors" in the API reference of each.
    fn code(self, code: &'static str) -> &'static str {
        match (self, code) {
            (Self::Iam, THROTTLED) => "Throttling",
            (Self::Iam, "UnauthorizedOperation") => "AccessDenied",
            (Self::Iam, "InternalError") => "ServiceFailure",
            (Self::Iam, "MissingParameter" | "InvalidParameterValue") => "ValidationError",
            (Self::Pricing | Self::Ssm, THROTTLED) => "ThrottlingException",
            (Self::Sqs, THROTTLED) => "RequestThrottled",
            (Self::Pricing | Self::Sqs | Self::Ssm, "UnauthorizedOperation") => {
                "AccessDeniedException"
            }
            (Self::Sqs, "InternalError") => "InternalFailure",
            (Self::Ssm, "InternalError") => "InternalServerError",
            (Self::Pricing, "InternalError") => "InternalErrorException",
            (Self::Pricing, "MissingParameter" | "InvalidParameterValue") => {
                "InvalidParameterException"
            }
            (Self::Ssm, "MissingParameter" | "InvalidParameterValue") => "ValidationException",
            (Self::Pricing | Self::Sqs | Self::Ssm, "InvalidAction") => "UnknownOperationException",
            (_, code) => code,
        }
    }
}
