//! What a node has only so many of beside processors and memory: ports of the host, and places for volumes.

use std::time::Duration;

use serde_json::{Value, json};

use super::Stage;

impl Stage {
    /// A small pod with a container that starts before its main one.
    fn with_init(&self, name: &str, init: &Value) {
        self.pod_with(
            name,
            &json!({
                "initContainers": [init],
                "containers": [{"name": "main", "resources": {"requests": {"cpu": "500m", "memory": "64Mi"}}}],
            }),
        );
    }

    /// A StorageClass whose volumes are made where the pods go.
    fn storage_class(&self, name: &str) {
        let class = json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
            "metadata": {"name": name},
            "provisioner": "ebs.csi.aws.com",
            "volumeBindingMode": "WaitForFirstConsumer",
        });
        self.world.apply(class).unwrap();
    }

    /// A PersistentVolume of EBS.
    fn volume(&self, name: &str) {
        let zone = json!({
            "key": "topology.kubernetes.io/zone", "operator": "In", "values": ["us-east-1a"],
        });
        let volume = json!({
            "apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "capacity": {"storage": "10Gi"},
                "csi": {"driver": "ebs.csi.aws.com", "volumeHandle": "vol-1"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [zone]}]}},
            },
        });
        self.world.apply(volume).unwrap();
    }

    /// A PersistentVolumeClaim that says this of where its volume comes from.
    fn volume_claim(&self, name: &str, (field, value): (&str, &str)) {
        let mut claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "10Gi"}},
            },
        });
        claim["spec"][field] = json!(value);
        self.world.apply(claim).unwrap();
    }

    /// A pod that mounts the volumes of these claims.
    fn mounting(&self, name: &str, cpu: &str, claims: &[String]) {
        let volumes = claims
            .iter()
            .map(|claim| json!({ "name": claim, "persistentVolumeClaim": { "claimName": claim } }));
        let volumes: Vec<Value> = volumes.collect();
        self.pod_with(
            name,
            &json!({
                "volumes": volumes,
                "containers": [{"name": "main", "resources": {"requests": {"cpu": cpu, "memory": "64Mi"}}}],
            }),
        );
    }

    /// A small pod that mounts nine volumes, which are still to be made.
    fn mounting_nine(&self, name: &str) {
        let claims: Vec<String> = (1..=9).map(|number| format!("{name}-{number}")).collect();
        for claim in &claims {
            self.volume_claim(claim, ("storageClassName", "fast"));
        }
        self.mounting(name, "500m", &claims);
    }
}

/// Elsewhere a pod whose volume cannot be looked up is left out of the plan, and only a log says so; here each is told
/// what is missing, nobody else waits for it, and it runs once that is there.
#[tokio::test(start_paused = true)]
async fn pods_whose_volumes_cannot_be_found_are_told_and_run_once_they_are_there() {
    let stage = Stage::new();
    stage.volume_claim("of-no-class", ("storageClassName", "fast"));
    stage.volume_claim("of-no-volume", ("volumeName", "data"));
    let _process = stage.run();
    for name in ["of-nobody", "of-no-class", "of-no-volume"] {
        stage.mounting(name, "3", &[name.to_owned()]);
    }
    stage.pod("a");
    stage
        .until(120, "the other pod runs", |stage| {
            stage.phase("a") == "Running"
        })
        .await;
    let told = stage.told("FailedScheduling").join("\n");
    for why in [
        "of-nobody does not exist",
        "of-no-class names StorageClass fast, which does not exist",
        "of-no-volume is bound to data, which does not exist",
    ] {
        assert!(told.contains(why), "{told}");
    }
    assert_eq!(stage.machines().len(), 1, "nothing is bought in vain");
    stage.storage_class("fast");
    stage.volume("data");
    stage.volume_claim("of-nobody", ("storageClassName", "fast"));
    stage
        .until(120, "all of them run", |stage| stage.running_pods() == 4)
        .await;
    assert_eq!(stage.machines().len(), 4);
}

/// Elsewhere ports that sidecars take on the host are not seen, and two pods are planned onto a node that takes one;
/// here each has a node, and containers that end before their pods run keep nobody apart.
#[tokio::test(start_paused = true)]
async fn pods_whose_sidecars_take_a_port_of_the_host_have_a_machine_each() {
    let stage = Stage::new();
    let _process = stage.run();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let sidecar = json!({
        "name": "proxy", "restartPolicy": "Always",
        "ports": [{"containerPort": 9000, "hostPort": 9000}],
    });
    for name in ["proxied-1", "proxied-2"] {
        stage.with_init(name, &sidecar);
    }
    let init = json!({ "name": "init", "ports": [{"containerPort": 9001, "hostPort": 9001}] });
    for name in ["plain-1", "plain-2", "plain-3"] {
        stage.with_init(name, &init);
    }
    stage
        .until(5, "two machines are bought", |stage| {
            stage.machines().len() == 2
        })
        .await;
    stage
        .until(120, "all pods run", |stage| stage.running_pods() == 5)
        .await;
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!(stage.running_pods(), 5);
    assert_eq!(stage.machines().len(), 2);
}

/// Elsewhere a node that is not there yet attaches any number of volumes, and a burst of pods with volumes has too few
/// of them; here 27 volumes are too many for a machine that takes 26, while it is planned and while it boots.
#[tokio::test(start_paused = true)]
async fn pods_with_volumes_have_as_many_machines_as_can_attach_them() {
    let stage = Stage::new();
    stage.storage_class("fast");
    let _process = stage.run();
    tokio::time::sleep(Duration::from_secs(10)).await;
    for name in ["a", "b", "c"] {
        stage.mounting_nine(name);
    }
    stage
        .until(5, "there is one for two of them", |stage| {
            stage.machines().len() == 2
        })
        .await;
    stage.mounting_nine("d");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(stage.machines().len(), 2, "one of the two has room for it");
    stage.mounting_nine("e");
    stage
        .until(5, "none has room for the next", |stage| {
            stage.machines().len() == 3
        })
        .await;
    assert_eq!(stage.running_pods(), 0, "all of them boot still");
}
