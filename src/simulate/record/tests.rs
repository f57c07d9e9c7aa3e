//! What is recorded of a cluster, and what never is.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::sim::api_server::{DeleteOptions, Key, Resource};
use crate::sim::faults::Calm;
use crate::sim::life::Life;
use crate::sim::{Embedded, Options, runtime};
use crate::simulate::input::trace;
use crate::simulate::{Load, Run};

/// A word that must not be found in any trace.
const CANARY: &str = "canary-7f3a";

/// A pod that has the canary wherever a pod may hold something that is nobody's business.
fn talkative() -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("pod-{CANARY}"), "namespace": format!("team-{CANARY}"),
            "annotations": { "note": CANARY, (format!("{CANARY}/key")): "x", "karpenter.sh/do-not-disrupt": "true" },
            "labels": { "app": CANARY, "secret": CANARY, "spark-role": "driver" },
            "ownerReferences": [{
                "apiVersion": "batch/v1", "kind": "Job", "name": format!("job-{CANARY}"), "uid": "u",
                "controller": true,
            }],
        },
        "spec": {
            "serviceAccountName": CANARY, "hostname": CANARY, "imagePullSecrets": [{ "name": CANARY }],
            "nodeSelector": { "kubernetes.io/arch": "amd64" },
            "tolerations": [{ "key": "dedicated", "operator": "Exists", "effect": "NoSchedule" }],
            "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [{
                "topologyKey": "kubernetes.io/hostname",
                "labelSelector": { "matchLabels": { "app": CANARY } },
                "namespaces": [format!("team-{CANARY}")],
            }] } },
            "initContainers": [{
                "name": format!("init-{CANARY}"), "image": CANARY, "args": [CANARY],
                "env": [{ "name": CANARY, "value": CANARY }],
            }],
            "containers": [{
                "name": CANARY, "image": format!("registry/{CANARY}:1"), "command": [CANARY], "args": [CANARY],
                "workingDir": CANARY,
                "env": [
                    { "name": "TOKEN", "value": CANARY },
                    { "name": "KEY", "valueFrom": { "secretKeyRef": { "name": CANARY, "key": CANARY } } },
                ],
                "envFrom": [{ "secretRef": { "name": CANARY } }],
                "ports": [{ "name": "canary", "containerPort": 9000, "hostPort": 9000 }],
                "livenessProbe": { "exec": { "command": [CANARY] } },
                "resources": { "requests": { "cpu": "2", "memory": "4Gi" } },
                "volumeMounts": [{ "name": "data", "mountPath": format!("/{CANARY}") }],
            }],
            "volumes": [
                { "name": "secret", "secret": { "secretName": CANARY } },
                { "name": "config", "configMap": { "name": CANARY } },
                { "name": "path", "hostPath": { "path": format!("/{CANARY}") } },
                { "name": "data", "persistentVolumeClaim": { "claimName": format!("data-{CANARY}") } },
            ],
        },
    })
}

/// Records a world while its pod comes, runs and goes.
fn recorded(hide: Hide) -> Recorded {
    runtime::run(async {
        let world = Embedded::begin(Options::calm(1));
        let client = world.api.client("recorder", Life::new(), Arc::new(Calm));
        world
            .apply(json!({
                "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": "volume" },
                "spec": {
                    "csi": { "driver": "ebs.csi.aws.com", "volumeHandle": CANARY },
                    "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [{
                        "key": "topology.kubernetes.io/zone", "operator": "In", "values": ["us-east-1b"],
                    }] }] } },
                },
            }))
            .unwrap();
        world
            .apply(json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": { "name": format!("data-{CANARY}"), "namespace": format!("team-{CANARY}") },
                "spec": { "volumeName": "volume" },
            }))
            .unwrap();
        let scene = world.clone();
        let play = async move {
            tokio::time::sleep(Duration::from_secs(90)).await;
            scene.apply(talkative()).unwrap();
            let key = Key::new(
                Resource::Pod,
                &format!("team-{CANARY}"),
                &format!("pod-{CANARY}"),
            );
            tokio::time::sleep(Duration::from_secs(30)).await;
            let started = scene.now().to_string();
            let change = scene.api.change("kubelet", &key, Some("status"), |pod| {
                pod["status"]["phase"] = json!("Running");
                pod["status"]["startTime"] = json!(started);
                pod["status"]["message"] = json!(CANARY);
            });
            change.unwrap();
            tokio::time::sleep(Duration::from_mins(10)).await;
            let options = DeleteOptions {
                grace_seconds: Some(0),
                ..DeleteOptions::default()
            };
            scene.api.delete("user", &key, &options).unwrap();
            tokio::time::sleep(Duration::from_mins(1)).await;
        };
        let clock = Arc::clone(&world.clock);
        let recorded = record(&client, &clock, hide, play, &|_there, _ended| {}).await;
        world.end().await;
        recorded.unwrap()
    })
    .unwrap()
}

#[test]
fn nothing_but_what_scheduling_reads_is_recorded() {
    let recorded = recorded(Hide::with_salt("salt"));
    assert!(!recorded.trace.contains("canary"), "{}", recorded.trace);
    let trace = trace::parse("recorded", &recorded.trace).unwrap();
    let [load]: &[Load; 1] = trace.loads.as_slice().try_into().unwrap();
    assert_eq!((load.count, recorded.pods, recorded.unstarted), (1, 1, 0));
    assert_eq!(load.at, 90_000);
    let Run::Between(least, most) = load.run else {
        panic!("{:?}", load.run);
    };
    assert_eq!(least, most);
    assert!((598_000..=602_000).contains(&least), "{least}");
    assert_eq!(load.spec.requests.get("cpu"), 2_000);
    assert_eq!(load.spec.tolerations.len(), 1);
    assert_eq!(load.spec.labels["spark-role"], "driver");
    assert_eq!(load.spec.labels.len(), 2, "{:?}", load.spec.labels);
    let constraints = load.spec.constraints.as_ref().unwrap();
    assert_eq!(constraints.host_ports[0].port, 9_000);
    let zone = &constraints.required_node_terms[0].expressions[0];
    assert_eq!(zone.values, ["us-east-1b"]);
    // Hashed alike on both sides, the pod still keeps away from its own kind.
    let apart = constraints.anti_affinity[0].selector.as_ref().unwrap();
    assert!(apart.matches(&load.spec.labels));
    assert_eq!(
        constraints.anti_affinity[0].namespaces,
        std::slice::from_ref(&load.spec.namespace)
    );
}

#[test]
fn names_are_kept_when_asked_for_and_nothing_else_is() {
    let recorded = recorded(Hide::nothing());
    let kept = [
        format!("job-{CANARY}"),
        format!("team-{CANARY}"),
        format!("\"app\":\"{CANARY}\""),
    ];
    let mut rest = recorded.trace;
    for name in kept {
        assert!(rest.contains(&name), "{name}: {rest}");
        rest = rest.replace(&name, "");
    }
    assert!(!rest.contains("canary"), "{rest}");
}

#[test]
fn pods_of_the_past_of_daemon_sets_and_of_other_schedulers_are_left_out() {
    let begin: Timestamp = "2027-01-04T00:00:00Z".parse().unwrap();
    let later = |seconds: i64| begin + jiff::SignedDuration::from_secs(seconds);
    let mut recorder = Recorder::new(begin, Hide::with_salt("s"));
    let mut see = |uid: &str, created: i64, change: &dyn Fn(&mut serde_json::Value)| {
        let mut pod = json!({
            "metadata": { "uid": uid, "name": uid, "creationTimestamp": later(created).to_string() },
            "spec": { "containers": [{ "name": "main", "resources": { "requests": { "cpu": "1" } } }] },
            "status": { "phase": "Running", "startTime": later(created + 5).to_string() },
        });
        change(&mut pod);
        recorder.see(&serde_json::from_value(pod).unwrap(), later(100));
    };
    see("old", -500, &|pod| {
        pod["status"]["phase"] = json!("Succeeded");
    });
    see("daemon", 10, &|pod| {
        pod["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "d", "controller": true,
        }]);
    });
    see("other", 10, &|pod| {
        pod["spec"]["schedulerName"] = json!("volcano");
    });
    see("before", -60, &|_pod| {});
    see("a", 20, &|_pod| {});
    see("b", 20, &|_pod| {});
    see("pending", 30, &|pod| {
        pod["status"] = json!({ "phase": "Pending" });
    });
    recorder.gone("a", later(80));
    recorder.gone("b", later(80));
    recorder.only(&BTreeSet::from(["before".to_owned()]), later(90));
    assert_eq!((recorder.counts(), recorder.unstarted), ((1, 2), 1));
    let trace = recorder.trace(&Zones::default(), later(120));
    let loads = trace::parse("recorded", &trace).unwrap().loads;
    let kept: Vec<(i64, u32, Run)> = loads
        .iter()
        .map(|load| (load.at, load.count, load.run))
        .collect();
    let run = Run::Between(55_000, 55_000);
    assert_eq!(kept, [(0, 1, Run::ToTheEnd), (20_000, 2, run)]);
}
