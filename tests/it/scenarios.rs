//! Scenes in the users' language: manifests in, the plan and its reasons out.
//!
//! Every file of `scenarios/` is planned together with `base.yaml` by the binary itself and compared
//! with its snapshot.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

/// Small, because tests run without optimisation.
const BUDGET_MS: u64 = 5;

fn scenario(name: &str) -> [PathBuf; 2] {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/scenarios");
    [folder.join("base.yaml"), folder.join(name)]
}

fn tonnage(arguments: &[&str], name: &str) -> String {
    run(arguments, name).0
}

/// What the binary prints, and what it says on standard error.
fn run(arguments: &[&str], name: &str) -> (String, String) {
    let [base, scene] = scenario(name);
    let output = Command::new(env!("CARGO_BIN_EXE_tonnage"))
        .args(arguments)
        .arg("-f")
        .arg(base)
        .arg("-f")
        .arg(scene)
        .args(["--budget-ms", &BUDGET_MS.to_string()])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    (String::from_utf8(output.stdout).unwrap(), said)
}

/// The plan without what differs between runs. The binary holds it against every constraint, and its lower bound against
/// the proof.
fn planned(name: &str) -> String {
    let plan = tonnage(&["plan", "-o", "json", "--check"], name);
    let mut plan: Value = serde_json::from_str(&plan).unwrap();
    let fields = plan.as_object_mut().unwrap();
    for field in ["elapsedMs", "certificate", "lowerBoundUsdPerHour"] {
        assert!(fields.remove(field).is_some(), "{field}");
    }
    serde_json::to_string_pretty(&plan).unwrap()
}

macro_rules! scenarios {
    ($($function:ident: $file:literal),* $(,)?) => {
        $(
            #[test]
            fn $function() {
                insta::with_settings!({
                    snapshot_path => "scenarios/snapshots",
                    prepend_module_to_snapshot => false,
                    omit_expression => true,
                }, {
                    insta::assert_snapshot!($file, planned(concat!($file, ".yaml")));
                });
            }
        )*

        #[test]
        fn every_scenario_is_listed() {
            let mut files = vec!["base.yaml".to_owned()];
            files.extend([$(concat!($file, ".yaml")),*].map(str::to_owned));
            files.sort();
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/scenarios");
            let mut found: Vec<String> = std::fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|file| file.ends_with(".yaml"))
                .collect();
            found.sort();
            assert_eq!(found, files);
        }
    };
}

scenarios! {
    executors_and_jobs_get_the_cheapest_mix: "executors",
    pinned_workloads_pay_for_it: "pinned",
    pods_spread_over_zones_and_nodes: "spread",
    pods_go_where_their_company_is: "affinity",
    those_that_lead_have_a_node_before_others_join_them: "affinity-chain",
    limits_hold_and_priority_decides: "limits",
    what_counts_on_pods_that_a_limit_keeps_out_is_kept_out_by_it: "limits-of-company",
    volumes_decide_the_place: "volumes",
    daemon_sets_take_their_part: "daemon-sets",
    host_ports_keep_pods_apart: "host-ports",
    room_that_is_there_comes_first: "existing-nodes",
    bad_input_gets_a_reason: "bad-input",
    preferences_choose_among_what_is_allowed: "preferences",
    contested_pods_are_left: "contested",
    price_ceilings_hold: "price-ceilings",
    spreads_count_what_their_policies_say: "spread-policies",
    affinity_reaches_into_selected_namespaces: "affinity-namespaces",
    machines_attach_only_so_many_volumes: "volumes-attached",
    requests_add_up_as_kubernetes_adds_them: "requests",
    what_advice_is_about_is_planned_as_it_is: "advice",
    terms_without_meaning_are_named: "malformed",
    fields_that_contradict_each_other_are_named: "refused",
    a_runtime_class_adds_to_its_pods: "runtime-classes",
    claims_that_pods_share_keep_them_together: "shared-claims",
    coupled_pods_pay_for_whole_machines: "coupled-prices",
    daemon_sets_occupy_nodes_that_are_to_come: "daemon-occupants",
    labels_that_nodes_lack_bind_only_who_needs_them: "missing-labels",
    nodes_are_filled_as_far_as_alternatives_reach: "min-values",
    who_cannot_keep_min_values_keeps_nobody_from_a_node: "min-values-narrow",
    labels_have_old_names_too: "old-label-names",
    node_affinity_asks_with_every_operator: "node-affinity-operators",
    spreads_count_the_nodes_that_affinity_allows: "node-policies",
    a_selector_that_says_nothing_counts_no_pod_for_a_spread: "spread-empty-selector",
    a_spread_counts_only_nodes_with_the_labels_of_all_that_must_hold: "spread-over-two-labels",
    machines_on_their_way_keep_their_pods: "starting",
    wishes_keep_no_pod_from_running: "soft",
    wishes_of_machines_are_worth_only_so_much: "wish-for-a-large-machine",
    a_wish_to_be_spread_over_zones_buys_no_machine: "wish-for-spread",
    a_wish_for_distance_over_zones_buys_no_machine: "wish-for-distance",
    many_pods_that_would_rather_be_spread_share_machines: "wish-for-spread-of-many",
    wishes_among_workloads_that_wait_are_met_where_it_is_free: "wish-among-workloads",
    pods_that_end_are_there_until_they_are_gone: "ending",
    types_that_the_catalogue_lacks_are_planned_without: "unknown-types",
    whatever_keeps_a_pod_out_names_the_nearest_miss: "nearest-misses",
}

#[test]
fn explain_names_the_smallest_change() {
    let text = tonnage(&["explain", "pod", "default/train-0"], "pinned.yaml");
    assert!(
        text.contains("g4dn.xlarge: 3920m cpu allocatable, pod asks 4: lower the request by 80m"),
        "{text}"
    );
    let text = tonnage(&["explain", "pod", "executor-0"], "pinned.yaml");
    assert!(
        text.contains("new node of NodePool executors: c5.xlarge"),
        "{text}"
    );
    let text = tonnage(&["explain", "pod", "gated"], "contested.yaml");
    assert!(text.contains("waits for its scheduling gates"), "{text}");
}

#[test]
fn what_the_catalogue_does_not_know_is_said() {
    for arguments in [&["plan"][..], &["explain", "pod", "cache"], &["advise"]] {
        let (_text, said) = run(arguments, "unknown-types.yaml");
        let expected = ["memory", "typed"].map(|pool| {
            let names = if pool == "memory" { "r6i" } else { "c5.colossal" };
            format!(
                "warning: NodePool {pool} names what the catalogue does not know, so it is planned without: {names}; \
                 give what your region offers with --catalog\n"
            )
        });
        assert_eq!(said, expected.concat(), "{arguments:?}");
    }
    let (_text, said) = run(&["plan"], "executors.yaml");
    assert_eq!(said, "");
}

#[test]
fn classes_that_pods_name_and_nobody_gives_are_said() {
    for arguments in [
        &["plan"][..],
        &["explain", "pod", "of-the-cluster"],
        &["advise"],
    ] {
        let (_text, said) = run(arguments, "runtime-classes.yaml");
        let of_class = |kind: &str, class: &str, without: &str| {
            format!(
                "warning: Pod of-an-unknown-class names {kind} {class}, which is not given, so the pods are planned \
                 {without}; give the {kind} with --filename\n"
            )
        };
        let expected = [
            of_class("PriorityClass", "urgent", "with priority 0"),
            of_class(
                "RuntimeClass",
                "gvisor",
                "without its overhead, node selector and tolerations",
            ),
        ];
        assert_eq!(said, expected.concat(), "{arguments:?}");
    }
}

/// Kube-scheduler puts the cluster's defaults onto pods of sets without a spread of their own, and onto no
/// others.
#[test]
fn the_default_spread_of_the_cluster_is_on_pods_of_sets_alone() {
    let zones = r#"[{"maxSkew":1,"topologyKey":"topology.kubernetes.io/zone","whenUnsatisfiable":"DoNotSchedule"}]"#;
    let by_zone = |arguments: &[&str], pods: &str| {
        let plan: Value = serde_json::from_str(&tonnage(arguments, "executors.yaml")).unwrap();
        let mut found: BTreeMap<String, usize> = BTreeMap::new();
        for node in plan["nodes"].as_array().unwrap() {
            let of_set = node["pods"].as_array().unwrap().iter();
            let count = of_set
                .filter(|name| name.as_str().unwrap().starts_with(pods))
                .count();
            *found
                .entry(node["zone"].as_str().unwrap().to_owned())
                .or_default() += count;
        }
        found
            .into_values()
            .filter(|count| *count > 0)
            .collect::<Vec<_>>()
    };
    let defaults = ["plan", "-o", "json", "--default-spread", zones];
    assert_eq!(by_zone(&["plan", "-o", "json"], "default/executor-"), [10]);
    assert_eq!(by_zone(&defaults, "default/executor-"), [2; 5]);
    assert_eq!(by_zone(&defaults, "default/small-"), [1]);
}

fn advice(name: &str) -> (Value, BTreeMap<String, Value>) {
    let report: Value = serde_json::from_str(&tonnage(&["advise", "-o", "json"], name)).unwrap();
    let workloads = report["workloads"].as_array().unwrap();
    let by_name = workloads
        .iter()
        .map(|workload| {
            (
                workload["name"].as_str().unwrap().to_owned(),
                workload.clone(),
            )
        })
        .collect();
    (report, by_name)
}

#[test]
fn advice_names_what_can_have_no_place() {
    let (report, workloads) = advice("refused.yaml");
    assert!(!workloads.contains_key("limit-below-request"));
    let invalid = report["invalid"].as_array().unwrap();
    let found = invalid
        .iter()
        .find(|one| one["name"] == "limit-below-request");
    let problem = found.unwrap()["problem"].as_str().unwrap();
    assert!(
        problem.contains("resources.requests.cpu is 2, and its limit is 1"),
        "{problem}"
    );
    let text = tonnage(&["advise"], "refused.yaml");
    let line = "default/limit-below-request Pod, pods 1: no advice, since none can have a place as it is written: main: ";
    assert!(text.contains(line), "{text}");
}

#[test]
fn advice_names_changes_that_a_second_plan_confirms() {
    let (_report, workloads) = advice("executors.yaml");
    let executors = &workloads["executor"];
    assert_eq!(executors["priceSetter"], "memory");
    let best = &executors["changes"][0];
    assert_eq!(best["requests"]["cpu"], "1950m");
    assert!(best["savesPercent"].as_i64().unwrap() >= 14, "{executors}");
}

/// What saves when a workload is alone may save nothing beside the others, and pods without a place do not
/// keep advice on the rest of their workload from being given.
#[test]
fn advice_is_about_the_whole_plan() {
    let (report, workloads) = advice("advice.yaml");
    let plan: Value =
        serde_json::from_str(&tonnage(&["plan", "-o", "json"], "advice.yaml")).unwrap();
    assert_eq!(report["usdPerHour"], plan["usdPerHour"]);
    assert_eq!(workloads["large"]["changes"], json!([]));
    let huge = &workloads["huge"];
    assert_eq!(huge["leftOut"], 2);
    assert_eq!(huge["changes"][0]["requests"]["cpu"], "7900m");
    assert_eq!(huge["changes"][0]["placesPods"], 2);
    let limited = &workloads["limited"];
    assert_eq!(limited["leftOut"], 3);
    let reason = limited["leftOutReason"].as_str().unwrap();
    assert!(reason.contains("limit of 8 cpu"), "{reason}");
    assert_eq!(limited["changes"][0]["requests"]["cpu"], "1950m");
    assert_eq!(limited["changes"][0]["placesPods"], 1);
    assert_eq!(report["together"]["changes"], 2);
    assert_eq!(report["together"]["placesPods"], 3);
}
