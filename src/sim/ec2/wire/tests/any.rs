//! Whatever is asked, there is an answer, and an answer is XML with a known status.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;

use super::{FLEET, TEMPLATE, Talk};
use crate::sim::ec2::wire::Operation;
use crate::sim::runtime;

/// Names that operations read, beside those of the usual requests.
const NAMES: [&str; 28] = [
    "CapacityReservationId.1",
    "DryRun",
    "EndTime",
    "Filter.1.Name",
    "Filter.1.Value.1",
    "GroupId.1",
    "ImageId.1",
    "InstanceId.1",
    "InstanceProfileName",
    "InstanceType.1",
    "LaunchTemplateConfigs.1.Overrides.1.Priority",
    "LaunchTemplateData.MetadataOptions.HttpPutResponseHopLimit",
    "LaunchTemplateData.CapacityReservationSpecification.CapacityReservationPreference",
    "LaunchTemplateData.CapacityReservationSpecification.CapacityReservationTarget.CapacityReservationId",
    "LaunchTemplateId",
    "LaunchTemplateName.1",
    "LocationType",
    "MaxResults",
    "NextToken",
    "Marker",
    "MaxItems",
    "Path",
    "Owner.1",
    "ResourceId.1",
    "RoleName",
    "StartTime",
    "SubnetId.1",
    "Tag.1.Key",
];

/// Values that mean something somewhere.
const VALUES: [&str; 22] = [
    "",
    "-1",
    "0",
    "1.5",
    "5",
    "99999999999999999999",
    "2027-01-15T07:00:00Z",
    "9999-12-31T23:59:59Z",
    "*",
    "ami-amd64",
    "availability-zone",
    "aws:x",
    "blue-1",
    "c5.xlarge",
    "i-00000000000000001",
    "instant",
    "lt-00000000000000001",
    "on-demand",
    "spot",
    "tag:x",
    "true",
    "\u{0}ü<&>",
];

fn operation() -> impl Strategy<Value = Operation> {
    select(Operation::ALL.to_vec())
}

fn names() -> Vec<&'static str> {
    let usual = FLEET.iter().chain(TEMPLATE).map(|(name, _value)| *name);
    NAMES.into_iter().chain(usual).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 128,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(11),
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_request_goes_without_an_answer(
        requests in prop::collection::vec(
            (operation(), prop::collection::vec((select(names()), select(VALUES.to_vec())), 0..6)),
            1..12,
        )
    ) {
        runtime::run(async {
            let talk = Talk::begin();
            for (operation, changes) in requests {
                // Half of it the usual request, so that more than the first field is looked at.
                let usual = match operation {
                    Operation::CreateFleet => FLEET,
                    Operation::CreateLaunchTemplate => TEMPLATE,
                    _ => &[],
                };
                let answer = talk.ask(operation.as_str(), &super::but(usual, &changes)).await;
                let known = [200, 400, 404, 409, 412, 503];
                assert!(known.contains(&answer.status), "{}", answer.body);
                assert!(answer.body.starts_with("<?xml"), "{}", answer.body);
            }
        })
        .unwrap();
    }

    #[test]
    fn any_json_is_a_request(target in "(AmazonSSM.)?[A-Za-z]{0,20}", body in prop::collection::vec(any::<u8>(), 0..200)) {
        runtime::run(async {
            let answer = Talk::begin().endpoint.answer(Some(&target), &body).await.unwrap();
            assert_eq!(answer.status, 400);
            serde_json::from_str::<serde_json::Value>(&answer.body).unwrap();
        })
        .unwrap();
    }

    #[test]
    fn any_bytes_are_a_request(body in prop::collection::vec(any::<u8>(), 0..200)) {
        runtime::run(async {
            let answer = Talk::begin().endpoint.answer(None, &body).await.unwrap();
            assert_eq!(answer.status, 400);
        })
        .unwrap();
    }
}
