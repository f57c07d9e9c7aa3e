//! What becomes of the objects that a deleted object owns.

use std::time::Duration;

use crate::sim::api_server::{DeleteOptions, Key, Propagation, Resource};
use crate::sim::scene::Work;
use crate::sim::{Embedded, Options, runtime};

/// Deletes a Deployment of two pods; gives back the Deployments, ReplicaSets, and pods that were there
/// a moment later and long after, and how many of the last have an owner.
async fn left(propagation: Propagation) -> ([usize; 3], [usize; 3], usize) {
    let world = Embedded::begin(Options::calm(1));
    let work = Work {
        name: "web",
        cpu: "1",
        memory: "1Gi",
        gpus: 0,
        tolerates: None,
        role: None,
        pods: 2,
        seconds: None,
    };
    world.apply(work.deployment()).unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let kinds = [Resource::Deployment, Resource::ReplicaSet, Resource::Pod];
    let count = || kinds.map(|kind| world.api.count(kind));
    assert_eq!(count(), [1, 1, 2]);
    let options = DeleteOptions {
        propagation: Some(propagation),
        ..DeleteOptions::default()
    };
    let key = Key::new(Resource::Deployment, "default", "web");
    world.api.delete("user", &key, &options).unwrap();
    let soon = count();
    tokio::time::sleep(Duration::from_mins(1)).await;
    let mut owned = 0;
    world.api.each(Resource::ReplicaSet, |_key, set| {
        let owners = set["metadata"]["ownerReferences"].as_array();
        owned += owners.map_or(0, Vec::len);
    });
    let late = count();
    world.end().await;
    (soon, late, owned)
}

#[test]
fn what_is_owned_goes_after_its_owner_or_before_or_stays() {
    let run = |propagation| runtime::run(left(propagation)).unwrap();
    assert_eq!(run(Propagation::Background), ([0, 1, 2], [0, 0, 0], 0));
    assert_eq!(run(Propagation::Foreground), ([1, 1, 2], [0, 0, 0], 0));
    assert_eq!(run(Propagation::Orphan), ([1, 1, 2], [0, 1, 2], 0));
}
