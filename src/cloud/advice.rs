//! What people can do about an error of AWS.
//!
//! Given: the operation, the class of the error, its code and AWS's message. Given back: the message with what
//! would mend it. Nothing is decided by it.

use std::collections::BTreeSet;

use super::errors::{NO_CREDENTIALS, NO_SPOT_ROLE, is_identity_problem, is_of_no_host};
use crate::model::launch::ErrorClass::{self, QuotaExceeded, Transient, Unauthorized};

/// What AWS says, and what to do about it where that is known.
pub(super) fn advise(operation: &str, class: ErrorClass, code: &str, message: &str) -> String {
    let advice = match class {
        Unauthorized if code == NO_SPOT_ROLE => {
            "create the service-linked role for Spot once: aws iam create-service-linked-role \
             --aws-service-name spot.amazonaws.com"
                .to_owned()
        }
        Unauthorized if code == NO_CREDENTIALS => {
            "give the controller an identity: EKS Pod Identity, IRSA, or AWS_ACCESS_KEY_ID and \
             AWS_SECRET_ACCESS_KEY"
                .to_owned()
        }
        Unauthorized if code == "OptInRequired" || code == "PendingVerification" => {
            "the account is not ready to use EC2 in this region".to_owned()
        }
        Unauthorized if is_identity_problem(code) => {
            "the credentials were not accepted; check the controller's role, the clock, and that the account has \
             enabled the region (--region, AWS_REGION)"
                .to_owned()
        }
        // The shipped policy allows reads in the cluster's region alone.
        Unauthorized => format!(
            "allow {} for the controller's role{}{}",
            missing_actions(operation, message),
            role_of(message).map_or_else(String::new, |role| format!(" {role}")),
            if operation.starts_with("Describe") {
                " in this region (--region, AWS_REGION)"
            } else {
                ""
            }
        ),
        // A region that does not exist has no hosts.
        Transient if is_of_no_host(code, message) => {
            "no host has that name: check the region (--region, AWS_REGION) and the name servers"
                .to_owned()
        }
        QuotaExceeded => format!("raise the quota for {} in Service Quotas", quota_of(code)),
        _ => {
            let Some(less) = less_of(code) else {
                return message.to_owned();
            };
            less.to_owned()
        }
    };
    if message.is_empty() {
        advice
    } else {
        format!("{}; {advice}", message.trim_end_matches('.'))
    }
}

/// The role that AWS's message says the caller has.
fn role_of(message: &str) -> Option<&str> {
    let (_before, rest) = message.split_once(":assumed-role/")?;
    let end = rest.find(|character: char| character == '/' || character.is_whitespace());
    rest.get(..end?).filter(|role| !role.is_empty())
}

/// What the names of the actions begin with that AWS's messages name.
const SERVICES: [&str; 8] = [
    "ec2:", "eks:", "iam:", "kms:", "pricing:", "sqs:", "ssm:", "sts:",
];

/// The IAM actions that AWS's message names; else the one of the operation, which for CreateFleet
/// includes what the fleet does on the caller's behalf.
fn missing_actions(operation: &str, message: &str) -> String {
    let named: BTreeSet<&str> = message
        .split(|character: char| character.is_whitespace() || "'\"`,;()".contains(character))
        .map(|word| word.trim_end_matches('.'))
        .filter(|word| {
            SERVICES
                .iter()
                .any(|service| word.starts_with(service) && word.len() > service.len())
        })
        .collect();
    if !named.is_empty() {
        return named.into_iter().collect::<Vec<_>>().join(" and ");
    }
    match operation {
        "CreateFleet" => {
            "ec2:CreateFleet, ec2:RunInstances, ec2:CreateTags and iam:PassRole".to_owned()
        }
        "CreateLaunchTemplate" => "ec2:CreateLaunchTemplate and ec2:CreateTags".to_owned(),
        "RunInstances" => "ec2:RunInstances, ec2:CreateTags and iam:PassRole".to_owned(),
        "GetProducts" => "pricing:GetProducts".to_owned(),
        "GetParameters" => "ssm:GetParameters".to_owned(),
        "DescribeCluster" => "eks:DescribeCluster".to_owned(),
        "GetQueueUrl" | "ReceiveMessage" => format!("sqs:{operation}"),
        "DeleteMessageBatch" => "sqs:DeleteMessage".to_owned(),
        "CreateInstanceProfile" => {
            "iam:CreateInstanceProfile and iam:TagInstanceProfile".to_owned()
        }
        "AddRoleToInstanceProfile" => "iam:AddRoleToInstanceProfile and iam:PassRole".to_owned(),
        other if other.contains("InstanceProfile") => format!("iam:{other}"),
        other => format!("ec2:{other}"),
    }
}

fn quota_of(code: &str) -> &'static str {
    match code {
        "VcpuLimitExceeded" | "InstanceLimitExceeded" => "running On-Demand instances (vCPUs)",
        "MaxSpotInstanceCountExceeded" | "MaxSpotFleetRequestCountExceeded" => {
            "Spot instance requests (vCPUs)"
        }
        "MaxFleetCountExceeded" => "EC2 fleets",
        "MaxTemplateLimitExceeded" => "launch templates",
        "MaxIOPSLimitExceeded" => "EBS IOPS",
        "NetworkInterfaceLimitExceeded" => "network interfaces",
        "VolumeLimitExceeded" => "EBS storage",
        _ => "the resource named above",
    }
}

/// What a class has to ask less of, where its machines exceed what EC2 lets one have.
fn less_of(code: &str) -> Option<&'static str> {
    let less = match code {
        "AttachmentLimitExceeded" => {
            "list fewer volumes (spec.blockDeviceMappings) or network interfaces (spec.networkInterfaces), or use \
             larger instance types"
        }
        "InvalidInterface.IpAddressLimitExceeded" | "PrivateIpAddressLimitExceeded" => {
            "lower spec.ipPrefixCount, or use larger instance types"
        }
        "SecurityGroupLimitExceeded"
        | "SecurityGroupsPerInstanceLimitExceeded"
        | "SecurityGroupsPerInterfaceLimitExceeded" => {
            "let spec.securityGroupSelectorTerms select fewer security groups, or raise the quota for security \
             groups per network interface in Service Quotas"
        }
        "TagLimitExceeded" => "take tags out of spec.tags: a resource has 50 at most",
        _ => return None,
    };
    Some(less)
}
