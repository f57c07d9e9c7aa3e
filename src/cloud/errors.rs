//! From AWS's error codes to what they mean for what happens next: one table.
//!
//! Given: a code (EC2, Pricing, or a word of ours) or an HTTP status. Given back: an
//! [`ErrorClass`], and whether the same request may be repeated. Nothing here makes a call; a code
//! that the table does not know is judged by the shape of its name, then by its HTTP status.

use super::CloudError;
use super::advice::advise;
use crate::model::launch::{ErrorClass, NO_FREE_ADDRESS};

/// The code given to a call that got no answer: the request may or may not have taken effect.
pub const NO_ANSWER: &str = "NoAnswer";
/// The code given when no credentials were found, or they could not be loaded.
pub const NO_CREDENTIALS: &str = "NoCredentials";
/// The code of EC2's answer to a dry run that would have worked.
pub const DRY_RUN: &str = "DryRunOperation";
/// The code given to a request that is wrong before it is made.
pub const REFUSED: &str = "Refused";
/// EC2's code where the account lacks the service-linked role for Spot and the caller may not make it.
pub const NO_SPOT_ROLE: &str = "AuthFailure.ServiceLinkedRoleCreationNotPermitted";

use ErrorClass::{
    InsufficientCapacity, Invalid, NotFound, QuotaExceeded, Throttled, TokenMismatch, Transient,
    Unauthorized,
};

/// Every code with a meaning of its own, by name.
///
/// Sources: the EC2 API reference, "Error codes"; the CreateFleet error codes that EC2 gives inside
/// a successful answer; the signature and service errors common to all AWS APIs. Limits of what one
/// machine, interface or request may have are no quotas of the account, whatever their names end in:
/// who asks for less meets none.
const TABLE: &[(&str, ErrorClass)] = &[
    ("AccessDenied", Unauthorized),
    ("AccessDeniedException", Unauthorized),
    ("AttachmentLimitExceeded", Invalid),
    ("AuthFailure", Unauthorized),
    (NO_SPOT_ROLE, Unauthorized),
    ("AWS.SimpleQueueService.NonExistentQueue", NotFound),
    ("Blocked", Unauthorized),
    ("DependencyViolation", Invalid),
    ("EC2ThrottledException", Throttled),
    ("ExpiredToken", Unauthorized),
    ("ExpiredTokenException", Unauthorized),
    ("FilterLimitExceeded", Invalid),
    ("IdempotentInstanceTerminated", TokenMismatch),
    ("IdempotentParameterMismatch", TokenMismatch),
    ("IncompleteSignature", Unauthorized),
    ("IncorrectInstanceState", Invalid),
    ("IncorrectState", Invalid),
    ("InstanceLimitExceeded", QuotaExceeded),
    ("InsufficientAddressCapacity", InsufficientCapacity),
    ("InsufficientCapacity", InsufficientCapacity),
    (NO_FREE_ADDRESS, InsufficientCapacity),
    ("InsufficientHostCapacity", InsufficientCapacity),
    ("InsufficientInstanceCapacity", InsufficientCapacity),
    ("InsufficientReservedInstanceCapacity", InsufficientCapacity),
    ("InsufficientVolumeCapacity", InsufficientCapacity),
    ("InternalError", Transient),
    ("InternalFailure", Transient),
    ("InternalServerError", Transient),
    ("InternalServerException", Transient),
    ("InvalidAction", Invalid),
    ("InvalidAMIID.Malformed", Invalid),
    ("InvalidAMIID.Unavailable", Invalid),
    (
        "InvalidCapacityReservationState.Unavailable",
        InsufficientCapacity,
    ),
    ("InvalidClientTokenId", Unauthorized),
    ("InvalidFleetConfiguration", Invalid),
    ("InvalidInstanceID.Malformed", Invalid),
    ("InvalidInterface.IpAddressLimitExceeded", Invalid),
    ("InvalidKMSKey.InvalidState", Invalid),
    ("InvalidParameter", Invalid),
    ("InvalidParameterCombination", Invalid),
    ("InvalidParameterValue", Invalid),
    ("InvalidPlacementGroup.Unknown", NotFound),
    ("InvalidUserData.Malformed", Invalid),
    ("LimitExceededException", QuotaExceeded),
    ("MalformedQueryString", Invalid),
    ("MaxFleetCountExceeded", QuotaExceeded),
    ("MaxIOPSLimitExceeded", QuotaExceeded),
    ("MaxSpotFleetRequestCountExceeded", QuotaExceeded),
    ("MaxSpotInstanceCountExceeded", QuotaExceeded),
    ("MaxTemplateLimitExceeded", QuotaExceeded),
    ("MissingAuthenticationToken", Unauthorized),
    ("MissingParameter", Invalid),
    ("NetworkInterfaceLimitExceeded", QuotaExceeded),
    (NO_ANSWER, Transient),
    (NO_CREDENTIALS, Unauthorized),
    ("NoSuchEntity", NotFound),
    ("NotAuthorized", Unauthorized),
    ("OperationNotPermitted", Invalid),
    ("OptInRequired", Unauthorized),
    ("OverLimit", Throttled),
    ("ParameterNotFound", NotFound),
    ("ParameterVersionNotFound", NotFound),
    ("PendingVerification", Unauthorized),
    ("PriorRequestNotComplete", Throttled),
    ("PrivateIpAddressLimitExceeded", Invalid),
    ("ProvisionedThroughputExceededException", Throttled),
    ("QueueDoesNotExist", NotFound),
    (REFUSED, Invalid),
    ("RequestExpired", Unauthorized),
    ("RequestLimitExceeded", Throttled),
    ("RequestThrottled", Throttled),
    ("RequestThrottledException", Throttled),
    ("RequestTimeout", Transient),
    ("RequestTimeoutException", Transient),
    ("ReservationCapacityExceeded", InsufficientCapacity),
    ("ResourceCountExceeded", QuotaExceeded),
    ("ResourceLimitExceeded", QuotaExceeded),
    ("ResourceNotFoundException", NotFound),
    ("SecurityGroupLimitExceeded", Invalid),
    ("SecurityGroupsPerInstanceLimitExceeded", Invalid),
    ("SecurityGroupsPerInterfaceLimitExceeded", Invalid),
    ("ServiceQuotaExceededException", QuotaExceeded),
    ("ServiceUnavailable", Transient),
    ("ServiceUnavailableException", Transient),
    ("SignatureDoesNotMatch", Unauthorized),
    ("SlowDown", Throttled),
    ("SpotMaxPriceTooLow", InsufficientCapacity),
    ("TagLimitExceeded", Invalid),
    ("ThrottledException", Throttled),
    ("Throttling", Throttled),
    ("ThrottlingException", Throttled),
    ("TooManyRequestsException", Throttled),
    ("TransactionInProgressException", Throttled),
    ("UnauthorizedOperation", Unauthorized),
    ("Unavailable", Transient),
    ("UnfulfillableCapacity", InsufficientCapacity),
    ("UnrecognizedClientException", Unauthorized),
    // "Not in this zone" is permanent for the offering, which is what walking on treats it as.
    ("Unsupported", InsufficientCapacity),
    ("UnsupportedOperation", Invalid),
    ("ValidationError", Invalid),
    ("ValidationException", Invalid),
    ("VcpuLimitExceeded", QuotaExceeded),
    ("VolumeLimitExceeded", QuotaExceeded),
];

/// What a code means; `status` is the HTTP status, if there was an answer.
pub fn classify(code: &str, status: Option<u16>) -> ErrorClass {
    // Some answers say whose fault it is in front of the code.
    let code = ["Client.", "Server."]
        .iter()
        .find_map(|side| code.strip_prefix(side))
        .unwrap_or(code);
    if let Some((_code, class)) = TABLE.iter().find(|(known, _class)| *known == code) {
        return *class;
    }
    if code.ends_with(".NotFound") || code.ends_with(".NotFoundException") {
        return NotFound;
    }
    if code.ends_with("LimitExceeded") {
        return QuotaExceeded;
    }
    match status {
        Some(401 | 403) => Unauthorized,
        Some(429) => Throttled,
        Some(status) if status >= 500 => Transient,
        Some(_refused) => Invalid,
        // An error inside a successful answer, or no answer: the code is all there is.
        None if code.is_empty() => Transient,
        None => Invalid,
    }
}

/// True when the same request may be made again and may then succeed.
pub const fn is_retryable(class: ErrorClass) -> bool {
    matches!(class, Throttled | Transient)
}

/// True when another offering may serve although this one did not.
pub const fn walks_on(class: ErrorClass) -> bool {
    matches!(class, InsufficientCapacity | QuotaExceeded)
}

/// An error with AWS's code and message, made useful: what to do is added where it is known.
pub fn cloud_error(
    operation: &'static str,
    code: &str,
    message: &str,
    status: Option<u16>,
) -> CloudError {
    let class = classify(code, status);
    CloudError {
        operation,
        class,
        code: if code.is_empty() { NO_ANSWER } else { code }.to_owned(),
        message: advise(operation, class, code, message),
    }
}

/// A request of ours that cannot be made as it stands.
pub fn refused(operation: &'static str, message: impl Into<String>) -> CloudError {
    CloudError {
        operation,
        class: Invalid,
        code: REFUSED.to_owned(),
        message: message.into(),
    }
}

/// A message without the text that EC2 encodes its reasons in: it differs each time, and nobody can read it as it is.
pub fn without_encoded(message: &str) -> String {
    let Some((before, encoded)) = message.split_once("Encoded authorization failure message: ")
    else {
        return message.to_owned();
    };
    let end = encoded.find(|character: char| character.is_whitespace() || character == ';');
    let after = end.and_then(|end| encoded.get(end..)).unwrap_or_default();
    format!("{}{after}", before.trim_end())
}

/// True for the codes of limits that every machine of a class exceeds, of whatever type: of its security groups and tags.
pub fn is_of_every_machine(code: &str) -> bool {
    [
        "SecurityGroupLimitExceeded",
        "SecurityGroupsPerInstanceLimitExceeded",
        "SecurityGroupsPerInterfaceLimitExceeded",
        "TagLimitExceeded",
    ]
    .contains(&code)
}

/// True for codes that say that the caller is known and may not do it.
pub fn is_missing_permission(code: &str) -> bool {
    [
        "AccessDenied",
        "AccessDeniedException",
        "NotAuthorized",
        "UnauthorizedOperation",
    ]
    .contains(&code)
}

/// True for what every call gets alike: AWS does not know who asks, or serves nothing to the account in this region.
pub fn is_of_the_caller(error: &CloudError) -> bool {
    is_identity_problem(&error.code)
        || [
            NO_CREDENTIALS,
            "Blocked",
            "OptInRequired",
            "PendingVerification",
        ]
        .contains(&error.code.as_str())
}

/// True where the host that was to be asked has no address: that of a region that does not exist, or the network is
/// without names.
pub fn has_no_host(error: &CloudError) -> bool {
    is_of_no_host(&error.code, &error.message)
}

pub(super) fn is_of_no_host(code: &str, message: &str) -> bool {
    code == NO_ANSWER && message.contains("dns error")
}

/// An error with the region that was asked, where it may be the wrong one.
pub fn of_region(error: CloudError, region: &str) -> CloudError {
    let may_be_the_region = error.class == Unauthorized && error.code != NO_CREDENTIALS;
    if !may_be_the_region && !has_no_host(&error) {
        return error;
    }
    CloudError {
        message: format!("in {region}: {}", error.message),
        ..error
    }
}

/// What calls that were made together failed for, the same each time while the cause lasts, whichever came back
/// first: that nobody knows the caller; else the permissions that are missing, all of them; else the first in their order.
pub fn one_of<'errors>(
    errors: impl IntoIterator<Item = &'errors CloudError>,
) -> Option<CloudError> {
    let errors: Vec<&CloudError> = errors.into_iter().collect();
    if let Some(error) = errors.iter().find(|error| is_of_the_caller(error)) {
        return Some((*error).clone());
    }
    let mut missing = errors
        .iter()
        .filter(|error| error.class == Unauthorized)
        .map(|error| (*error).clone());
    let Some(first) = missing.next() else {
        return errors.first().map(|error| (*error).clone());
    };
    Some(missing.fold(first, |said, next| CloudError {
        message: format!(
            "{} ({}); {}: {}",
            said.message, said.code, next.operation, next.message
        ),
        code: next.code,
        ..said
    }))
}

pub(super) fn is_identity_problem(code: &str) -> bool {
    [
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "MissingAuthenticationToken",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    ]
    .contains(&code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_sorted_and_without_duplicates() {
        for pair in TABLE.windows(2) {
            let (Some(first), Some(second)) = (pair.first(), pair.get(1)) else {
                continue;
            };
            assert!(
                first.0.to_lowercase() < second.0.to_lowercase(),
                "{} before {}",
                first.0,
                second.0
            );
        }
    }

    #[test]
    fn shortage_quota_throttle_and_faults_are_told_apart() {
        for (code, status, class) in [
            ("InsufficientInstanceCapacity", None, InsufficientCapacity),
            ("UnfulfillableCapacity", None, InsufficientCapacity),
            ("VcpuLimitExceeded", None, QuotaExceeded),
            ("NetworkInterfaceLimitExceeded", Some(400), QuotaExceeded),
            ("VolumeLimitExceeded", None, QuotaExceeded),
            ("SomethingNewLimitExceeded", Some(400), QuotaExceeded),
            ("RequestLimitExceeded", Some(503), Throttled),
            ("Client.RequestLimitExceeded", None, Throttled),
            (
                "Server.InsufficientInstanceCapacity",
                None,
                InsufficientCapacity,
            ),
            ("ParameterNotFound", Some(400), NotFound),
            ("ServiceQuotaExceededException", Some(400), QuotaExceeded),
            ("InvalidFleetConfiguration", None, Invalid),
            ("InvalidInstanceID.NotFound", Some(400), NotFound),
            (
                "InvalidLaunchTemplateName.NotFoundException",
                Some(400),
                NotFound,
            ),
            ("UnauthorizedOperation", Some(403), Unauthorized),
            ("InvalidParameterValue", Some(400), Invalid),
            ("IdempotentParameterMismatch", Some(400), TokenMismatch),
            ("SomethingNew", Some(503), Transient),
            ("", Some(500), Transient),
            ("", None, Transient),
            ("SomethingNew", None, Invalid),
        ] {
            assert_eq!(classify(code, status), class, "{code} {status:?}");
        }
    }

    #[test]
    fn what_one_class_alone_asks_too_much_of_is_no_quota_and_says_what_to_change() {
        for (code, field) in [
            ("AttachmentLimitExceeded", "spec.blockDeviceMappings"),
            (
                "InvalidInterface.IpAddressLimitExceeded",
                "spec.ipPrefixCount",
            ),
            ("PrivateIpAddressLimitExceeded", "spec.ipPrefixCount"),
            (
                "SecurityGroupLimitExceeded",
                "spec.securityGroupSelectorTerms",
            ),
            (
                "SecurityGroupsPerInstanceLimitExceeded",
                "spec.securityGroupSelectorTerms",
            ),
            (
                "SecurityGroupsPerInterfaceLimitExceeded",
                "spec.securityGroupSelectorTerms",
            ),
            ("TagLimitExceeded", "spec.tags"),
        ] {
            for status in [None, Some(400)] {
                let error = cloud_error("CreateFleet", code, "Too many.", status);
                assert_eq!(error.class, Invalid, "{code}");
                assert!(error.message.starts_with("Too many; "), "{error}");
                assert!(error.message.contains(field), "{error}");
            }
        }
    }

    #[test]
    fn a_missing_permission_is_named() {
        let plain = cloud_error(
            "DescribeSubnets",
            "UnauthorizedOperation",
            "You are not authorized to perform this operation.",
            Some(403),
        );
        assert_eq!(
            plain.message,
            "You are not authorized to perform this operation; allow ec2:DescribeSubnets for the \
             controller's role in this region (--region, AWS_REGION)"
        );
        let named = cloud_error(
            "CreateFleet",
            "UnauthorizedOperation",
            "User: arn:aws:sts::1:assumed-role/x is not authorized to perform: iam:PassRole on \
             resource: arn:aws:iam::1:role/node",
            Some(403),
        );
        assert!(
            named
                .message
                .ends_with("; allow iam:PassRole for the controller's role x"),
            "{}",
            named.message
        );
    }

    #[test]
    fn the_permission_is_that_of_the_service_that_refused() {
        for (operation, actions) in [
            ("GetParameters", "ssm:GetParameters"),
            ("DescribeCluster", "eks:DescribeCluster"),
            ("ReceiveMessage", "sqs:ReceiveMessage"),
            ("DeleteMessageBatch", "sqs:DeleteMessage"),
            ("GetInstanceProfile", "iam:GetInstanceProfile"),
            (
                "AddRoleToInstanceProfile",
                "iam:AddRoleToInstanceProfile and iam:PassRole",
            ),
        ] {
            let said = cloud_error(operation, "AccessDenied", "", Some(403)).message;
            let advice = format!("allow {actions} for the controller's role");
            assert!(said.starts_with(&advice), "{said}");
        }
    }

    #[test]
    fn a_host_that_is_not_found_is_of_the_region_or_of_the_network() {
        let said = |text: &str| cloud_error("DescribeSubnets", NO_ANSWER, text, None).message;
        assert!(said("io error: dns error: not known").contains("check the region"));
        assert_eq!(said("io error: refused"), "io error: refused");
    }

    #[test]
    fn calls_that_fail_together_fail_for_one_cause() {
        let error = |operation, code: &str| cloud_error(operation, code, "no", Some(400));
        let slow = error("DescribeSubnets", "RequestLimitExceeded");
        let groups = error("DescribeSecurityGroups", "UnauthorizedOperation");
        let images = error("DescribeImages", "UnauthorizedOperation");
        let unknown = error("DescribePlacementGroups", "AuthFailure");
        let all = [&slow, &groups, &images, &unknown];
        assert_eq!(one_of(all), Some(unknown.clone()));
        let said = one_of([&slow, &groups, &images]).unwrap();
        assert_eq!(said.operation, "DescribeSecurityGroups");
        for action in ["ec2:DescribeSecurityGroups", "ec2:DescribeImages"] {
            assert!(said.message.contains(action), "{said}");
        }
        assert_eq!(one_of([&slow]), Some(slow.clone()));
        assert_eq!(one_of([]), None);
    }

    #[test]
    fn the_region_is_named_where_it_may_be_the_wrong_one() {
        let said = |code, text| {
            let error = cloud_error("DescribeSubnets", code, text, None);
            of_region(error, "eu-west-1").message
        };
        for (code, text) in [
            ("AuthFailure", "no"),
            ("UnauthorizedOperation", "no"),
            (NO_ANSWER, "dns error: not known"),
        ] {
            let message = said(code, text);
            assert!(message.starts_with("in eu-west-1: "), "{message}");
            assert!(message.contains("--region, AWS_REGION"), "{message}");
        }
        assert_eq!(said("InternalError", "no"), "no");
    }

    #[test]
    fn quota_errors_say_which_quota() {
        let error = cloud_error("CreateFleet", "VcpuLimitExceeded", "", None);
        assert!(error.message.contains("vCPUs"), "{}", error.message);
        assert!(walks_on(error.class) && !is_retryable(error.class));
    }

    #[test]
    fn what_is_said_twice_is_the_same() {
        let message = |encoded: &str| {
            let text = format!("May not. Encoded authorization failure message: {encoded}");
            let code = "UnauthorizedOperation";
            let error = cloud_error("TerminateInstances", code, &text, None);
            without_encoded(&error.message)
        };
        assert_eq!(message("x1-_y"), message("z2"));
        let expected = "May not.; allow ec2:TerminateInstances for the controller's role";
        assert_eq!(message("x1"), expected);
        assert_eq!(without_encoded("as it is"), "as it is");
    }
}
