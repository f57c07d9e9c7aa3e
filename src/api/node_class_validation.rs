//! What is wrong with an EC2NodeClass that the CRD cannot know.
//!
//! Given an EC2NodeClass, [`validate`] gives back every problem at once, each with its field and its
//! fix. The rules of the CRD are checked too where breaking them would mislead a launch, since a
//! manifest may come from a file. What exists in EC2 is not looked at here.

use super::image_alias::ImageAlias;
use super::kubelet_validation;
use super::node_class::selectors::AmiSelectorTerm;
use super::node_class::storage::{BlockDevice, VolumeType};
use super::node_class::{AmiFamily, EC2NodeClassSpec};
use super::problem::Problem;

/// EC2 takes at most this many bytes of user data, before it is encoded.
const USER_DATA_LIMIT: usize = 16_384;
/// Tag keys and prefixes that belong to AWS, Kubernetes or a provisioner.
const RESERVED_TAGS: &[&str] = &[
    "eks:eks-cluster-name",
    "karpenter.sh/nodepool",
    "karpenter.sh/nodeclaim",
    "karpenter.k8s.aws/ec2nodeclass",
];
const RESERVED_TAG_PREFIXES: &[&str] = &["aws:", "kubernetes.io/cluster", "tonnage.dev/"];

/// Everything that is wrong with the spec of an EC2NodeClass; empty when it is usable.
pub fn validate(spec: &EC2NodeClassSpec) -> Vec<Problem> {
    let mut problems = Vec::new();
    selectors(spec, &mut problems);
    family(spec, &mut problems);
    identity(spec, &mut problems);
    tags(spec, &mut problems);
    disks(spec, &mut problems);
    switches(spec, &mut problems);
    if spec
        .user_data
        .as_ref()
        .is_some_and(|text| text.len() > USER_DATA_LIMIT)
    {
        let what = format!("it is longer than the {USER_DATA_LIMIT} bytes that EC2 takes");
        problems.push(Problem::new(
            "spec.userData",
            what,
            "load the rest from elsewhere at boot",
        ));
    }
    if let Some(kubelet) = &spec.kubelet {
        kubelet_validation::validate(kubelet, resolved_family(spec).as_ref(), &mut problems);
    }
    problems
}

/// The family that is written, or the one that the alias says.
pub fn resolved_family(spec: &EC2NodeClassSpec) -> Option<AmiFamily> {
    spec.ami_family.clone().or_else(|| {
        let alias = spec
            .ami_selector_terms
            .iter()
            .find_map(|term| term.alias.as_deref())?;
        Some(family_of_alias(alias))
    })
}

fn family_of_alias(alias: &str) -> AmiFamily {
    match alias.split_once('@').map_or(alias, |(family, _)| family) {
        "al2023" => AmiFamily::Al2023,
        "bottlerocket" => AmiFamily::Bottlerocket,
        other => AmiFamily::Other(other.to_owned()),
    }
}

fn selectors(spec: &EC2NodeClassSpec, problems: &mut Vec<Problem>) {
    for (field, count, fix) in [
        (
            "subnetSelectorTerms",
            spec.subnet_selector_terms.len(),
            "select subnets by tags or id",
        ),
        (
            "securityGroupSelectorTerms",
            spec.security_group_selector_terms.len(),
            "select security groups by tags, id or name",
        ),
        (
            "amiSelectorTerms",
            spec.ami_selector_terms.len(),
            "select images by alias, tags, id or name",
        ),
    ] {
        if count == 0 {
            problems.push(Problem::new(
                format!("spec.{field}"),
                "it selects nothing",
                fix,
            ));
        }
    }
    for (index, term) in spec.subnet_selector_terms.iter().enumerate() {
        let field = format!("spec.subnetSelectorTerms[{index}]");
        one_way(
            &field,
            &[("tags", !term.tags.is_empty()), ("id", term.id.is_some())],
            problems,
        );
    }
    for (index, term) in spec.security_group_selector_terms.iter().enumerate() {
        let field = format!("spec.securityGroupSelectorTerms[{index}]");
        let ways = [
            ("tags", !term.tags.is_empty()),
            ("id", term.id.is_some()),
            ("name", term.name.is_some()),
        ];
        one_way(&field, &ways, problems);
    }
    for (index, term) in spec.ami_selector_terms.iter().enumerate() {
        ami_term(&format!("spec.amiSelectorTerms[{index}]"), term, problems);
    }
    let aliases = spec
        .ami_selector_terms
        .iter()
        .filter(|term| term.alias.is_some())
        .count();
    if aliases > 0 && spec.ami_selector_terms.len() > 1 {
        let what = "an alias must be the only image term";
        problems.push(Problem::new(
            "spec.amiSelectorTerms",
            what,
            "remove the alias or the other terms",
        ));
    }
}

/// A term must select in exactly one of the ways.
fn one_way(field: &str, ways: &[(&str, bool)], problems: &mut Vec<Problem>) {
    let set: Vec<&str> = ways
        .iter()
        .filter(|(_, is_set)| *is_set)
        .map(|(name, _)| *name)
        .collect();
    if set.len() == 1 {
        return;
    }
    let names: Vec<&str> = ways.iter().map(|(name, _)| *name).collect();
    let what = if set.is_empty() {
        "the term is empty".to_owned()
    } else {
        format!("the term has {}", set.join(" and "))
    };
    problems.push(Problem::new(
        field,
        what,
        format!("give exactly one of {}", names.join(", ")),
    ));
}

fn ami_term(field: &str, term: &AmiSelectorTerm, problems: &mut Vec<Problem>) {
    let filters = !term.tags.is_empty() || term.name.is_some();
    if !filters && term.id.is_none() && term.alias.is_none() && term.ssm_parameter.is_none() {
        let fix = "give tags, id, name, alias or ssmParameter";
        problems.push(Problem::new(field, "the term selects nothing", fix));
    }
    let more = filters || term.owner.is_some();
    if term.id.is_some() && (more || term.alias.is_some()) {
        problems.push(Problem::new(
            field,
            "id selects one image",
            "remove the rest of the term",
        ));
    }
    let Some(alias) = &term.alias else {
        return;
    };
    if more {
        problems.push(Problem::new(
            field,
            "alias selects the image",
            "remove the rest of the term",
        ));
    }
    if let Err(error) = ImageAlias::parse(alias) {
        let field = format!("{field}.alias");
        problems.push(Problem::new(field, error.to_string(), error.fix()));
    }
}

fn family(spec: &EC2NodeClassSpec, problems: &mut Vec<Problem>) {
    const FIELD: &str = "spec.amiFamily";
    let alias = spec
        .ami_selector_terms
        .iter()
        .find_map(|term| term.alias.as_deref());
    match (&spec.ami_family, alias) {
        (None, None) => {
            let fix = "write AL2023, Bottlerocket or Custom";
            problems.push(Problem::new(FIELD, "the image's family is not known", fix));
        }
        (Some(AmiFamily::Other(other)), _) => {
            let fix = match other.as_str() {
                "AL2" => "AL2 ended with Kubernetes 1.32; write AL2023",
                _ => "write AL2023, Bottlerocket or Custom",
            };
            problems.push(Problem::new(
                FIELD,
                format!("{other:?} is not supported"),
                fix,
            ));
        }
        (Some(family), Some(alias))
            if *family != AmiFamily::Custom && *family != family_of_alias(alias) =>
        {
            let what = format!("{family} is not the family of the alias {alias}");
            problems.push(Problem::new(
                FIELD,
                what,
                "remove it, or make it the alias's family or Custom",
            ));
        }
        _ => {}
    }
}

fn identity(spec: &EC2NodeClassSpec, problems: &mut Vec<Problem>) {
    if spec.role.is_some() == spec.instance_profile.is_some() {
        let what = match spec.role {
            Some(_) => "role and instanceProfile are both set",
            None => "neither role nor instanceProfile is set",
        };
        problems.push(Problem::new(
            "spec.role",
            what,
            "set exactly one of the two",
        ));
    }
    if spec
        .role
        .as_ref()
        .is_some_and(|role| role.rsplit('/').next().unwrap_or_default().is_empty())
    {
        problems.push(Problem::new(
            "spec.role",
            "it ends without a name",
            "write the name of an IAM role",
        ));
    }
}

fn tags(spec: &EC2NodeClassSpec, problems: &mut Vec<Problem>) {
    for key in spec.tags.keys() {
        let is_reserved = RESERVED_TAGS.contains(&key.as_str())
            || RESERVED_TAG_PREFIXES
                .iter()
                .any(|prefix| key.starts_with(prefix));
        if key.is_empty() || is_reserved {
            let what = if is_reserved {
                "the tag belongs to AWS, Kubernetes or a provisioner"
            } else {
                "it has no key"
            };
            problems.push(Problem::new(format!("spec.tags[{key}]"), what, "remove it"));
        }
    }
}

fn disks(spec: &EC2NodeClassSpec, problems: &mut Vec<Problem>) {
    let roots = spec
        .block_device_mappings
        .iter()
        .filter(|disk| disk.root_volume == Some(true))
        .count();
    if roots > 1 {
        let what = format!("{roots} disks have rootVolume: true");
        problems.push(Problem::new(
            "spec.blockDeviceMappings",
            what,
            "leave it on one of them",
        ));
    }
    for (index, disk) in spec.block_device_mappings.iter().enumerate() {
        let field = format!("spec.blockDeviceMappings[{index}]");
        if disk.device_name.as_ref().is_none_or(String::is_empty) {
            let fix = "write the name that the image knows, for example /dev/xvda";
            problems.push(Problem::new(
                format!("{field}.deviceName"),
                "it is missing",
                fix,
            ));
        }
        if let Some(ebs) = &disk.ebs {
            volume(&format!("{field}.ebs"), ebs, problems);
        }
    }
}

/// What EC2 refuses at launch: performance that the volume type does not have.
fn volume(field: &str, ebs: &BlockDevice, problems: &mut Vec<Problem>) {
    let kind = ebs.volume_type.clone().unwrap_or(VolumeType::Gp3);
    if !kind.is_known() {
        let what = format!("{:?} is not a volume type", kind.as_str());
        problems.push(Problem::new(
            format!("{field}.volumeType"),
            what,
            "write for example gp3",
        ));
        return;
    }
    if ebs.volume_size.is_none() && ebs.snapshot_id.is_none() {
        problems.push(Problem::new(
            format!("{field}.volumeSize"),
            "it is missing",
            "write for example 100Gi",
        ));
    }
    let takes_iops = matches!(kind, VolumeType::Gp3 | VolumeType::Io1 | VolumeType::Io2);
    let needs_iops = matches!(kind, VolumeType::Io1 | VolumeType::Io2);
    if ebs.iops.is_some() && !takes_iops {
        let what = format!("a {kind} volume has no provisioned IOPS");
        problems.push(Problem::new(
            format!("{field}.iops"),
            what,
            "remove it, or use gp3, io1 or io2",
        ));
    }
    if ebs.iops.is_none() && needs_iops {
        let what = format!("a {kind} volume needs provisioned IOPS");
        problems.push(Problem::new(
            format!("{field}.iops"),
            what,
            "write for example 3000, or use gp3",
        ));
    }
    let least = if kind == VolumeType::Gp3 { 3000 } else { 100 };
    if takes_iops && ebs.iops.is_some_and(|iops| iops < least) {
        let what = format!("a {kind} volume has at least {least} IOPS");
        problems.push(Problem::new(
            format!("{field}.iops"),
            what,
            "write more or remove it",
        ));
    }
    if ebs.throughput.is_some() && kind != VolumeType::Gp3 {
        let what = format!("a {kind} volume has no provisioned throughput");
        problems.push(Problem::new(
            format!("{field}.throughput"),
            what,
            "remove it, or use gp3",
        ));
    }
    if kind == VolumeType::Gp3 && ebs.throughput.is_some_and(|throughput| throughput < 125) {
        let what = "a gp3 volume has at least 125 MiB/s";
        problems.push(Problem::new(
            format!("{field}.throughput"),
            what,
            "write more or remove it",
        ));
    }
}

/// Words that this version does not know, which only another version of the CRD lets through.
fn switches(spec: &EC2NodeClassSpec, problems: &mut Vec<Problem>) {
    let metadata = &spec.metadata_options;
    let nested = spec
        .cpu_options
        .as_ref()
        .and_then(|options| options.nested_virtualization.as_ref());
    let policy = spec.instance_store_policy.as_ref();
    let mut check = |field: &str, value: &str, is_known: bool, known: &[&str]| {
        if !is_known {
            let fix = format!("write {}", known.join(" or "));
            problems.push(Problem::new(
                format!("spec.{field}"),
                format!("{value:?} is not known"),
                fix,
            ));
        }
    };
    let on_off = ["enabled", "disabled"];
    let endpoint = &metadata.http_endpoint;
    check(
        "metadataOptions.httpEndpoint",
        endpoint.as_str(),
        endpoint.is_known(),
        &on_off,
    );
    let ipv6 = &metadata.http_protocol_ipv6;
    check(
        "metadataOptions.httpProtocolIPv6",
        ipv6.as_str(),
        ipv6.is_known(),
        &on_off,
    );
    let tokens = &metadata.http_tokens;
    check(
        "metadataOptions.httpTokens",
        tokens.as_str(),
        tokens.is_known(),
        &["required", "optional"],
    );
    if let Some(nested) = nested {
        check(
            "cpuOptions.nestedVirtualization",
            nested.as_str(),
            nested.is_known(),
            &on_off,
        );
    }
    if let Some(policy) = policy {
        check(
            "instanceStorePolicy",
            policy.as_str(),
            policy.is_known(),
            &["RAID0"],
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(changes: &str) -> Vec<String> {
        let mut spec: serde_json::Value = serde_saphyr::from_str(
            "{amiFamily: AL2023, amiSelectorTerms: [{id: ami-1}], subnetSelectorTerms: [{id: subnet-1}], \
             securityGroupSelectorTerms: [{id: sg-1}], role: node}",
        )
        .unwrap();
        let changes: serde_json::Value = serde_saphyr::from_str(changes).unwrap();
        for (key, value) in changes.as_object().unwrap() {
            spec.as_object_mut()
                .unwrap()
                .insert(key.clone(), value.clone());
        }
        let spec: EC2NodeClassSpec = serde_json::from_value(spec).unwrap();
        validate(&spec).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_plain_class_is_valid() {
        assert_eq!(problems("{}"), Vec::<String>::new());
    }

    /// What a user writes, and a part of the one sentence that comes back.
    const WRONG: &[(&str, &str)] = &[
        (
            "{amiFamily: AL2}",
            "\"AL2\" is not supported; AL2 ended with Kubernetes 1.32; write AL2023",
        ),
        (
            "{amiFamily: null}",
            "spec.amiFamily: the image's family is not known",
        ),
        (
            "{amiFamily: Bottlerocket, amiSelectorTerms: [{alias: al2023@latest}]}",
            "Bottlerocket is not the family of the alias al2023@latest",
        ),
        (
            "{amiFamily: null, amiSelectorTerms: [{alias: ubuntu@1}]}",
            "\"ubuntu@1\" is not an alias",
        ),
        (
            "{amiSelectorTerms: []}",
            "spec.amiSelectorTerms: it selects nothing",
        ),
        (
            "{amiSelectorTerms: [{owner: self}]}",
            "spec.amiSelectorTerms[0]: the term selects nothing",
        ),
        (
            "{amiSelectorTerms: [{id: ami-1, name: x}]}",
            "id selects one image; remove the rest",
        ),
        (
            "{subnetSelectorTerms: [{id: subnet-1, tags: {a: b}}]}",
            "the term has tags and id; give exactly one of",
        ),
        (
            "{securityGroupSelectorTerms: [{}]}",
            "the term is empty; give exactly one of tags, id, name",
        ),
        (
            "{instanceProfile: x}",
            "role and instanceProfile are both set",
        ),
        ("{role: null}", "neither role nor instanceProfile is set"),
        ("{role: path/}", "it ends without a name"),
        (
            "{tags: {tonnage.dev/x: z}}",
            "spec.tags[tonnage.dev/x]: the tag belongs to",
        ),
        (
            "{blockDeviceMappings: [{ebs: {volumeSize: 10Gi}}]}",
            "blockDeviceMappings[0].deviceName: it is missing",
        ),
        (
            "{blockDeviceMappings: [{deviceName: /dev/xvda, ebs: {volumeSize: 10Gi, volumeType: gp2, iops: 300}}]}",
            "a gp2 volume has no provisioned IOPS",
        ),
        (
            "{blockDeviceMappings: [{deviceName: /dev/xvda, ebs: {volumeSize: 10Gi, volumeType: io2}}]}",
            "a io2 volume needs provisioned IOPS",
        ),
        (
            "{blockDeviceMappings: [{deviceName: /dev/xvda, ebs: {volumeSize: 10Gi, throughput: 50}}]}",
            "a gp3 volume has at least 125 MiB/s",
        ),
        (
            "{metadataOptions: {httpTokens: never}}",
            "\"never\" is not known; write required or optional",
        ),
        (
            "{kubelet: {registerWithTaints: []}}",
            "spec.kubelet.registerWithTaints",
        ),
    ];

    #[test]
    fn each_mistake_is_named_with_its_fix() {
        for (changes, expected) in WRONG {
            let found = problems(changes);
            assert!(
                found.len() == 1 && found[0].contains(expected),
                "{changes}\n{found:#?}"
            );
        }
    }

    #[test]
    fn too_much_user_data_is_refused() {
        let found = problems(&format!(
            "{{userData: {}}}",
            "x".repeat(USER_DATA_LIMIT + 1)
        ));
        assert!(found[0].contains("16384 bytes"), "{found:?}");
        assert_eq!(
            problems(&format!("{{userData: {}}}", "x".repeat(USER_DATA_LIMIT))).len(),
            0
        );
    }

    #[test]
    fn an_alias_says_the_family() {
        let found = problems("{amiFamily: null, amiSelectorTerms: [{alias: al2023@latest}]}");
        assert_eq!(found, Vec::<String>::new());
    }
}
