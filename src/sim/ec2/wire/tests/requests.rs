//! Operations, request by request.

use std::time::Duration;

use super::{FLEET, TEMPLATE, Talk, but, launched, texts};
use crate::cloud::reservations::Described;
use crate::model::offering::CapacityType;
use crate::sim::ec2::limits::Limit;
use crate::sim::ec2::market::Weather;

#[tokio::test(start_paused = true)]
async fn machines_live_from_template_to_termination() {
    let talk = Talk::begin();
    talk.done("CreateLaunchTemplate", TEMPLATE).await;
    let ids = launched(&talk.done("CreateFleet", FLEET).await);
    assert_eq!(ids.len(), 3);
    let machine = talk.world.ec2.machine(&ids[0]).unwrap();
    assert_eq!(machine.user_data, "#!/bin/sh\n");
    assert_eq!(machine.fees.to_string(), "0.0021917808");
    let shown = talk
        .done("DescribeInstances", &[("InstanceId.1", &ids[0])])
        .await;
    for (name, value) in [
        ("instanceType", "c5.xlarge"),
        ("instanceLifecycle", "spot"),
        ("availabilityZone", "us-east-1a"),
        ("httpTokens", "required"),
        ("launchTime", "2027-01-15T08:00:00.410Z"),
        ("arn", "arn:aws:iam::123456789012:instance-profile/nodes"),
    ] {
        assert_eq!(texts(&shown, name), [value], "{name}");
    }
    let tags = [
        ("Tag.1.Key", "Name"),
        ("Tag.1.Value", "one"),
        ("ResourceId.1", &ids[0]),
    ];
    talk.done("CreateTags", &tags).await;
    let named = [("Filter.1.Name", "tag:Name"), ("Filter.1.Value.1", "o?e")];
    let found = talk.done("DescribeInstances", &named).await;
    assert_eq!(texts(&found, "instanceId"), [ids[0].clone()]);
    let arn = "arn:aws:iam::123456789012:instance-profile/nodes";
    let of_profile = [
        ("Filter.1.Name", "iam-instance-profile.arn"),
        ("Filter.1.Value.1", arn),
    ];
    let found = talk.done("DescribeInstances", &of_profile).await;
    assert_eq!(texts(&found, "instanceId"), ids);
    let ended = talk
        .done("TerminateInstances", &[("InstanceId.1", &ids[0])])
        .await;
    assert!(ended.contains("shutting-down"), "{ended}");
    let alive = [
        ("Filter.1.Name", "instance-state-name"),
        ("Filter.1.Value.1", "pending"),
    ];
    let found = talk.done("DescribeInstances", &alive).await;
    assert_eq!(texts(&found, "instanceId"), ids[1..]);
    talk.done("DeleteLaunchTemplate", &[("LaunchTemplateName", "blue-1")])
        .await;
    let (_status, code, _message) = talk
        .refused("CreateFleet", &but(FLEET, &[("ClientToken", "t")]))
        .await;
    assert_eq!(code, "InvalidLaunchTemplateName.NotFoundException");
}

#[tokio::test(start_paused = true)]
async fn a_token_is_good_for_one_request() {
    let talk = Talk::begin();
    let made = talk.done("CreateLaunchTemplate", TEMPLATE).await;
    let again = talk.done("CreateLaunchTemplate", TEMPLATE).await;
    assert_eq!(
        texts(&again, "launchTemplateId"),
        texts(&made, "launchTemplateId")
    );
    let other = but(TEMPLATE, &[("LaunchTemplateData.ImageId", "ami-arm64")]);
    let (status, code, _message) = talk.refused("CreateLaunchTemplate", &other).await;
    assert_eq!(
        (status, code.as_str()),
        (400, "IdempotentParameterMismatch")
    );
    let renewed = but(TEMPLATE, &[("ClientToken", "token-9")]);
    let (_status, code, _message) = talk.refused("CreateLaunchTemplate", &renewed).await;
    assert_eq!(code, "InvalidLaunchTemplateName.AlreadyExistsException");
    let first = talk.done("CreateFleet", FLEET).await;
    let again = talk.done("CreateFleet", FLEET).await;
    assert_eq!(launched(&again), launched(&first));
    assert_eq!(texts(&again, "fleetId"), texts(&first, "fleetId"));
    let size = "TargetCapacitySpecification.TotalTargetCapacity";
    let (status, code, _message) = talk
        .refused("CreateFleet", &but(FLEET, &[(size, "4")]))
        .await;
    assert_eq!(
        (status, code.as_str()),
        (400, "IdempotentParameterMismatch")
    );
    let renewed = but(FLEET, &[("ClientToken", "token-3")]);
    assert_eq!(launched(&talk.done("CreateFleet", &renewed).await).len(), 3);
    assert_eq!(talk.world.ec2.machines().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_had_is_an_error_beside_what_can() {
    let talk = Talk::begin();
    talk.done("CreateLaunchTemplate", TEMPLATE).await;
    talk.world.ec2.limit(vec![Limit {
        instance_type: Some("c5.xlarge".to_owned()),
        zone: None,
        capacity_type: Some(CapacityType::Spot),
        most: 2,
    }]);
    let more = but(
        FLEET,
        &[
            (
                "LaunchTemplateConfigs.1.Overrides.2.InstanceType",
                "c5.xlarge",
            ),
            (
                "LaunchTemplateConfigs.1.Overrides.2.SubnetId",
                "subnet-nowhere",
            ),
            (
                "LaunchTemplateConfigs.1.Overrides.3.InstanceType",
                "x9.nothing",
            ),
            ("LaunchTemplateConfigs.1.Overrides.3.SubnetId", "subnet-b"),
        ],
    );
    let answer = talk.done("CreateFleet", &more).await;
    assert_eq!(launched(&answer).len(), 2);
    assert_eq!(
        texts(&answer, "errorCode"),
        [
            "InvalidSubnetID.NotFound",
            "Unsupported",
            "InsufficientInstanceCapacity"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn the_cheapest_the_deepest_or_the_first_is_bought_as_asked() {
    let talk = Talk::in_weather(Weather::USUAL);
    talk.done("CreateLaunchTemplate", TEMPLATE).await;
    let bought = async |strategy: &str, token: &str| {
        let fields = but(
            FLEET,
            &[
                ("ClientToken", token),
                ("TargetCapacitySpecification.TotalTargetCapacity", "1"),
                (
                    "TargetCapacitySpecification.DefaultTargetCapacityType",
                    "on-demand",
                ),
                ("OnDemandOptions.AllocationStrategy", strategy),
                ("LaunchTemplateConfigs.1.Overrides.1.Priority", "1.5"),
                (
                    "LaunchTemplateConfigs.1.Overrides.2.InstanceType",
                    "c5.2xlarge",
                ),
                ("LaunchTemplateConfigs.1.Overrides.2.SubnetId", "subnet-b"),
                ("LaunchTemplateConfigs.1.Overrides.2.Priority", "1"),
            ],
        );
        let answer = talk.done("CreateFleet", &fields).await;
        let id = launched(&answer).remove(0);
        talk.world
            .ec2
            .machine(&id)
            .unwrap()
            .shown(talk.world.now())
            .unwrap()
            .offering
            .to_string()
    };
    assert_eq!(
        bought("lowest-price", "a").await,
        "c5.xlarge/us-east-1a/on-demand"
    );
    assert_eq!(
        bought("prioritized", "b").await,
        "c5.2xlarge/us-east-1b/on-demand"
    );
    let wrong = but(FLEET, &[("SpotOptions.AllocationStrategy", "prioritized")]);
    let (_status, code, message) = talk.refused("CreateFleet", &wrong).await;
    assert_eq!(code, "InvalidParameterValue");
    assert!(
        message.contains("SpotOptions.AllocationStrategy"),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn long_answers_come_in_pages_that_miss_nothing() {
    let talk = Talk::begin();
    let mut token = String::new();
    let (mut types, mut pages) = (Vec::new(), 0);
    loop {
        let fields = [("MaxResults", "30"), ("NextToken", token.as_str())];
        let body = talk.done("DescribeInstanceTypes", &fields).await;
        types.extend(texts(&body, "instanceType"));
        pages += 1;
        let Some(next) = texts(&body, "nextToken").pop() else {
            break;
        };
        token = next;
    }
    let sold = talk
        .world
        .ec2
        .markets()
        .sold()
        .types
        .keys()
        .map(ToString::to_string)
        .collect::<Vec<_>>();
    assert_eq!(types, sold);
    assert_eq!(pages, sold.len().div_ceil(30));
}

#[tokio::test(start_paused = true)]
async fn a_new_machine_is_shown_late_and_is_not_there_before() {
    let talk = Talk::begin();
    talk.done("CreateLaunchTemplate", TEMPLATE).await;
    talk.world.ec2.show_late(Duration::from_secs(20));
    let ids = launched(&talk.done("CreateFleet", FLEET).await);
    let id = [("InstanceId.1", ids[0].as_str())];
    for action in ["DescribeInstances", "TerminateInstances"] {
        let (status, code, _message) = talk.refused(action, &id).await;
        assert_eq!(
            (status, code.as_str()),
            (400, "InvalidInstanceID.NotFound"),
            "{action}"
        );
    }
    let all = talk.done("DescribeInstances", &[]).await;
    assert_eq!(texts(&all, "instanceId"), Vec::<String>::new());
    tokio::time::sleep(Duration::from_secs(20)).await;
    talk.done("DescribeInstances", &id).await;
    talk.done("TerminateInstances", &id).await;
}

#[tokio::test(start_paused = true)]
async fn prices_are_those_of_the_market_and_go_back_a_day() {
    let talk = Talk::in_weather(Weather::USUAL);
    let now = crate::sim::ec2::wire::time(talk.world.now());
    let fields = [
        ("StartTime", now.as_str()),
        ("InstanceType.1", "c5.xlarge"),
        ("ProductDescription.1", "Linux/UNIX"),
    ];
    let body = talk.done("DescribeSpotPriceHistory", &fields).await;
    assert_eq!(texts(&body, "spotPrice").len(), 5, "one for each zone");
    let key = "c5.xlarge/us-east-1a/spot".parse().unwrap();
    let price = talk
        .world
        .ec2
        .markets()
        .price(&key, talk.world.now())
        .unwrap();
    assert_eq!(texts(&body, "spotPrice")[0], price.to_string());
    let day = talk.done("DescribeSpotPriceHistory", &fields[1..]).await;
    assert!(texts(&day, "spotPrice").len() > 50);
    let windows = but(&fields, &[("ProductDescription.1", "Windows")]);
    let none = talk.done("DescribeSpotPriceHistory", &windows).await;
    assert_eq!(texts(&none, "spotPrice"), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn reservations_are_found_by_id_and_filter_until_they_end() {
    let talk = Talk::begin();
    let now = talk.world.now();
    let ends = now
        .checked_add(jiff::SignedDuration::from_hours(1))
        .unwrap();
    let reservation = Described {
        id: "cr-1".to_owned(),
        owner: "123456789012".to_owned(),
        instance_type: "c5.xlarge".to_owned(),
        zone: "us-east-1a".to_owned(),
        matching: "open".to_owned(),
        total: 4,
        tags: [("team".to_owned(), "data".to_owned())].into(),
        ..Described::default()
    };
    talk.world.ec2.reserve(Described {
        id: "cr-2".to_owned(),
        matching: "targeted".to_owned(),
        ends: Some(ends),
        ..reservation.clone()
    });
    talk.world.ec2.reserve(reservation);
    let operation = "DescribeCapacityReservations";
    let found = async |fields: &[(&str, &str)]| {
        texts(&talk.done(operation, fields).await, "capacityReservationId")
    };
    assert_eq!(
        found(&[("Filter.1.Name", "tag:team"), ("Filter.1.Value.1", "data")]).await,
        ["cr-1", "cr-2"]
    );
    let open = [
        ("Filter.1.Name", "instance-match-criteria"),
        ("Filter.1.Value.1", "open"),
    ];
    assert_eq!(found(&open).await, ["cr-1"]);
    assert_eq!(
        found(&[("CapacityReservationId.1", "cr-2")]).await,
        ["cr-2"]
    );
    let body = talk.done(operation, &open).await;
    assert_eq!(texts(&body, "totalInstanceCount"), ["4"]);
    assert_eq!(texts(&body, "availableInstanceCount"), ["4"]);
    let first = [("MaxResults", "1")];
    assert_eq!(
        texts(&talk.done(operation, &first).await, "nextToken").len(),
        1
    );
    let (_status, code, _message) = talk
        .refused(operation, &[("CapacityReservationId.1", "cr-9")])
        .await;
    assert_eq!(code, "InvalidCapacityReservationId.NotFound");
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!(found(&[]).await, ["cr-1"]);
    talk.world.ec2.cancel_reservation("cr-1");
    assert_eq!(found(&[]).await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn what_the_account_has_is_found_by_id_name_and_tag() {
    let talk = Talk::begin();
    for (action, name, all) in [
        ("DescribeSubnets", "subnetId", 5),
        ("DescribeSecurityGroups", "groupId", 1),
        ("DescribeImages", "imageId", 2),
    ] {
        let tagged = [
            ("Filter.1.Name", "tag:tonnage.dev/discovery"),
            ("Filter.1.Value.1", "blue"),
        ];
        assert_eq!(
            texts(&talk.done(action, &tagged).await, name).len(),
            all,
            "{action}"
        );
        let other = [
            ("Filter.1.Name", "tag:tonnage.dev/discovery"),
            ("Filter.1.Value.1", "red"),
        ];
        assert_eq!(
            texts(&talk.done(action, &other).await, name).len(),
            0,
            "{action}"
        );
        let unknown = [("Filter.1.Name", "colour"), ("Filter.1.Value.1", "blue")];
        let (_status, code, _message) = talk.refused(action, &unknown).await;
        assert_eq!(code, "InvalidParameterValue", "{action}");
    }
    let (_status, code, _message) = talk
        .refused("DescribeImages", &[("ImageId.1", "ami-9")])
        .await;
    assert_eq!(code, "InvalidAMIID.NotFound");
    let of = async |owner: &str| {
        let body = talk.done("DescribeImages", &[("Owner.1", owner)]).await;
        texts(&body, "imageId")
    };
    assert_eq!(of("self").await, ["ami-amd64", "ami-arm64"]);
    let published = of("amazon").await;
    assert!(published.len() > 50 && !published.contains(&"ami-amd64".to_owned()));
    assert_eq!(of("210987654321").await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn profiles_are_listed_below_a_path_page_by_page() {
    let talk = Talk::begin();
    let names: Vec<String> = (0..5)
        .map(|number| format!("tonnage-{number:032x}"))
        .collect();
    for (name, path) in names.iter().zip(["/a/", "/b/", "/a/b/", "/a/", "/"]) {
        let fields = [("InstanceProfileName", name.as_str()), ("Path", path)];
        talk.done("CreateInstanceProfile", &fields).await;
    }
    let below = [("PathPrefix", "/a/"), ("MaxItems", "2")];
    let first = talk.done("ListInstanceProfiles", &below).await;
    assert_eq!(
        texts(&first, "InstanceProfileName"),
        [&*names[0], &*names[2]]
    );
    assert_eq!(texts(&first, "IsTruncated"), ["true"]);
    let marker = texts(&first, "Marker").remove(0);
    let next = but(&below, &[("Marker", marker.as_str())]);
    let second = talk.done("ListInstanceProfiles", &next).await;
    assert_eq!(texts(&second, "InstanceProfileName"), [&*names[3]]);
    assert_eq!(texts(&second, "IsTruncated"), ["false"]);
    for (action, fields, expected) in [
        (
            "CreateInstanceProfile",
            [("InstanceProfileName", names[0].as_str()), ("Path", "/")],
            (409, "EntityAlreadyExists"),
        ),
        (
            "CreateInstanceProfile",
            [("InstanceProfileName", "new"), ("Path", "a")],
            (400, "ValidationError"),
        ),
        (
            "GetInstanceProfile",
            [
                (
                    "InstanceProfileName",
                    "tonnage-0123456789abcdef0123456789abcdef",
                ),
                ("Path", "/"),
            ],
            (404, "NoSuchEntity"),
        ),
        (
            "ListInstanceProfiles",
            [("MaxItems", "0"), ("PathPrefix", "/")],
            (400, "ValidationError"),
        ),
        (
            "AddRoleToInstanceProfile",
            [("InstanceProfileName", names[0].as_str()), ("Path", "/")],
            (400, "ValidationError"),
        ),
        // SSM takes no forms.
        (
            "GetParameters",
            [("Names.1", "/a"), ("Path", "/")],
            (400, "InvalidAction"),
        ),
    ] {
        let (status, code, message) = talk.refused(action, &fields).await;
        assert_eq!((status, code.as_str()), expected, "{action}: {message}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_launched_with_a_profile_that_is_not_there() {
    let talk = Talk::begin();
    let absent = (
        "LaunchTemplateData.IamInstanceProfile.Name",
        "tonnage-0123456789abcdef0123456789abcdef",
    );
    talk.done("CreateLaunchTemplate", &but(TEMPLATE, &[absent]))
        .await;
    let (_status, code, message) = talk.refused("CreateFleet", FLEET).await;
    assert_eq!(code, "InvalidParameterValue");
    assert!(
        message.contains("Invalid IAM Instance Profile name"),
        "{message}"
    );
    assert!(talk.world.ec2.machines().is_empty());
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_wrong_are_refused_with_their_field() {
    let talk = Talk::begin();
    for (action, fields, expected) in [
        ("RebootInstances", &[][..], "InvalidAction"),
        ("TerminateInstances", &[], "MissingParameter"),
        (
            "TerminateInstances",
            &[("InstanceId.1", "x-1")],
            "InvalidInstanceID.Malformed",
        ),
        (
            "CreateTags",
            &[
                ("ResourceId.1", "i-0"),
                ("Tag.1.Key", "team"),
                ("Tag.1.Value", "a"),
            ],
            "InvalidInstanceID.NotFound",
        ),
        (
            "DescribeInstances",
            &[("MaxResults", "2000")],
            "InvalidParameterValue",
        ),
        (
            "CreateFleet",
            &[("Type", "maintain")],
            "InvalidParameterValue",
        ),
        ("CreateFleet", &[("Type", "instant")], "MissingParameter"),
        (
            "CreateLaunchTemplate",
            &[
                ("LaunchTemplateName", "x"),
                ("LaunchTemplateData.UserData", "%"),
            ],
            "InvalidUserData.Malformed",
        ),
        (
            "DeleteLaunchTemplate",
            &[("LaunchTemplateId", "lt-9")],
            "InvalidLaunchTemplateId.NotFound",
        ),
    ] {
        let (status, code, message) = talk.refused(action, fields).await;
        assert_eq!(
            (status, code.as_str()),
            (400, expected),
            "{action}: {message}"
        );
    }
    let long = "A".repeat(22_000);
    let fields = [
        ("LaunchTemplateName", "x"),
        ("LaunchTemplateData.UserData", long.as_str()),
    ];
    let (_status, _code, message) = talk.refused("CreateLaunchTemplate", &fields).await;
    assert_eq!(message, "User data is limited to 16384 bytes");
}

#[tokio::test(start_paused = true)]
async fn a_rehearsal_changes_nothing() {
    let talk = Talk::begin();
    let dry = ("DryRun", "true");
    let (status, code, _message) = talk
        .refused("CreateLaunchTemplate", &but(TEMPLATE, &[dry]))
        .await;
    assert_eq!((status, code.as_str()), (412, "DryRunOperation"));
    talk.done("CreateLaunchTemplate", TEMPLATE).await;
    let (status, code, _message) = talk.refused("CreateFleet", &but(FLEET, &[dry])).await;
    assert_eq!((status, code.as_str()), (412, "DryRunOperation"));
    assert!(talk.world.ec2.machines().is_empty());
    assert_eq!(launched(&talk.done("CreateFleet", FLEET).await).len(), 3);
}

/// A machine of the template of [`TEMPLATE`], as a dry run.
const RUN: &[(&str, &str)] = &[
    ("DryRun", "true"),
    ("MinCount", "1"),
    ("MaxCount", "1"),
    ("InstanceType", "c5.xlarge"),
    ("LaunchTemplate.LaunchTemplateName", "blue-1"),
    ("LaunchTemplate.Version", "1"),
    ("NetworkInterface.1.DeviceIndex", "0"),
    ("NetworkInterface.1.SubnetId", "subnet-a"),
    ("NetworkInterface.1.SecurityGroupId.1", "sg-0nodes"),
];

#[tokio::test(start_paused = true)]
async fn a_machine_by_itself_is_only_rehearsed() {
    let talk = Talk::begin();
    talk.done("CreateLaunchTemplate", TEMPLATE).await;
    for (change, status, code) in [
        (("MinCount", "1"), 412, "DryRunOperation"),
        (
            ("InstanceMarketOptions.MarketType", "spot"),
            412,
            "DryRunOperation",
        ),
        (("DryRun", "false"), 400, "UnsupportedOperation"),
        (("DryRun", "perhaps"), 400, "InvalidParameterValue"),
        (("MinCount", "2"), 400, "InvalidParameterValue"),
        (("MaxCount", "0"), 400, "InvalidParameterValue"),
        (("MaxCount", ""), 400, "MissingParameter"),
        (("InstanceType", ""), 400, "MissingParameter"),
        (("InstanceType", "x9.huge"), 400, "Unsupported"),
        (("SubnetId", "subnet-a"), 400, "InvalidParameterCombination"),
        (
            ("NetworkInterface.1.SubnetId", "subnet-x"),
            400,
            "InvalidSubnetID.NotFound",
        ),
        (
            ("LaunchTemplate.LaunchTemplateName", "red-1"),
            400,
            "InvalidLaunchTemplateName.NotFoundException",
        ),
    ] {
        // EC2 takes few of these calls at once.
        talk.world.pass(Duration::from_secs(1)).await;
        let (answered, word, message) = talk.refused("RunInstances", &but(RUN, &[change])).await;
        assert_eq!(
            (answered, word.as_str()),
            (status, code),
            "{change:?}: {message}"
        );
    }
    talk.world.ec2.lack(&["nodes"]);
    let (_status, _code, message) = talk.refused("RunInstances", RUN).await;
    assert!(
        message.ends_with("Invalid IAM Instance Profile name"),
        "{message}"
    );
    assert!(talk.world.ec2.machines().is_empty());
}
