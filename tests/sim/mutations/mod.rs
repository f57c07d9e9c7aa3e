//! Controllers that are broken on purpose: the checks must find each of them.
//!
//! A mutation sits between the controllers and what they talk to, kube's client or EC2, so that the
//! controllers themselves know of none.

mod deceived;
pub(crate) mod proofs;
mod region;
mod requests;

use tonnage::controllers::assembly::Connections;
use tonnage::sim::Embedded;

use crate::controllers::Controllers;

/// Seeds within which a mutation must be found.
pub(crate) const SEEDS: u64 = 12;

/// One way of being broken.
#[derive(Debug)]
pub(crate) struct Mutation {
    /// For `--mutation`.
    pub(crate) name: &'static str,
    /// What the controllers do wrong.
    pub(crate) wrong: &'static str,
    /// Words of the violation that it must lead to.
    pub(crate) found_by: &'static str,
    pub(crate) controllers: Controllers,
    /// Puts it between.
    pub(crate) change: fn(&Embedded, Connections) -> Connections,
}

const fn alone(
    name: &'static str,
    wrong: &'static str,
    found_by: &'static str,
    change: fn(&Embedded, Connections) -> Connections,
) -> Mutation {
    Mutation {
        name,
        wrong,
        found_by,
        controllers: Controllers::Alone,
        change,
    }
}

/// Every mutation.
pub(crate) static ALL: [Mutation; 28] = [
    Mutation {
        name: "lease-ignored",
        wrong: "who has led once believes that it leads for ever",
        found_by: "acted without the lease",
        controllers: Controllers::Two,
        change: |_world, connections| Connections {
            client: deceived::client(connections.client),
            ..connections
        },
    },
    Mutation {
        name: "lease-taken-early",
        wrong: "a lease that was renewed a second ago is taken",
        found_by: "took the lease at",
        controllers: Controllers::Two,
        change: |_world, connections| requests::between(connections, requests::short_promise),
    },
    alone(
        "token-skipped",
        "each call of a launch has a client token of its own",
        "has no claim of its own",
        |world, connections| region::broken(world, connections, region::Broken::FreshToken),
    ),
    alone(
        "double-launch",
        "a launch whose answer is lost is made again at once, as another one",
        "has no claim of its own",
        |world, connections| region::broken(world, connections, region::Broken::SecondCall),
    ),
    alone(
        "lost-answer-is-no",
        "a launch without an answer is taken for one that found no capacity",
        "has no claim of its own",
        |world, connections| region::broken(world, connections, region::Broken::NoMeansNothing),
    ),
    alone(
        "one-too-many",
        "a launch asks for one machine more than it has claims",
        "has no claim of its own",
        |world, connections| region::broken(world, connections, region::Broken::OneMore),
    ),
    alone(
        "tag-skipped",
        "machines do not carry the tag of the launch that they come from",
        "has no claim of its own",
        |world, connections| region::broken(world, connections, region::Broken::NoTag),
    ),
    alone(
        "termination-forgotten",
        "machines are written down as terminated and are not",
        "and was terminated",
        |world, connections| region::broken(world, connections, region::Broken::NoTermination),
    ),
    alone(
        "orphans-kept",
        "machines without a claim are written down as terminated and are not",
        "has had no owner since",
        |world, connections| region::broken(world, connections, region::Broken::OrphansKept),
    ),
    alone(
        "last-machines-kept",
        "who has no work any more cannot end the machines that it ran on",
        "seconds after the last work",
        |world, connections| region::broken(world, connections, region::Broken::LastKept),
    ),
    alone(
        "notice-invented",
        "machines are taken for ones that EC2 has announced to take",
        "that nothing was wrong with",
        |world, connections| region::broken(world, connections, region::Broken::Announced),
    ),
    alone(
        "half-a-list",
        "a list of machines that lacks some is believed more than what EC2 says of each",
        "is gone,",
        |world, connections| region::broken(world, connections, region::Broken::HalfList),
    ),
    alone(
        "foreign-provider-id",
        "whoever carries a provider id is taken for that machine",
        "impostor",
        |world, connections| region::broken(world, connections, region::Broken::Fooled),
    ),
    alone(
        "finalizer-dropped",
        "a claim that is being deleted is let go while its machine runs",
        "is gone,",
        |_world, connections| requests::between(connections, requests::drops_finalizers),
    ),
    alone(
        "limit-of-nodes-unread",
        "how many nodes a NodePool has is not held against the limit",
        "claims, its limit is",
        |world, connections| requests::with_limit(world, connections, ("nodes", "9")),
    ),
    alone(
        "limit-of-cpu-unread",
        "the processors of machines are not held against the limit",
        "vCPUs, its limit is",
        |world, connections| requests::with_limit(world, connections, ("cpu", "99")),
    ),
    alone(
        "limit-of-memory-unread",
        "the memory of machines is not held against the limit",
        "tenths of GiB, its limit is",
        |world, connections| requests::with_limit(world, connections, ("memory", "999Gi")),
    ),
    alone(
        "pods-unread",
        "pods for one NodePool are thought to fit nowhere",
        "quiet seconds wait",
        |_world, connections| requests::between(connections, requests::other_pool),
    ),
    alone(
        "idle-kept",
        "machines that nothing runs on are kept",
        "has been idle for",
        |_world, connections| requests::between(connections, requests::never_empty),
    ),
    alone(
        "stale-read",
        "what a slow watch shows of pods is believed before a machine is terminated",
        "was terminated under",
        |_world, connections| requests::between(connections, requests::stale_pods),
    ),
    alone(
        "eviction-without-budget",
        "pods are deleted instead of evicted",
        "without asking its disruption budget",
        |_world, connections| requests::between(connections, requests::deletes_pods),
    ),
    alone(
        "deadline-invented",
        "pods must leave a machine by a time that nobody announced and no NodePool says",
        "without asking its disruption budget",
        requests::with_deadlines,
    ),
    alone(
        "protected-evicted",
        "pods that must not be disrupted are not told apart",
        "evicted the protected pod",
        |_world, connections| requests::between(connections, requests::protection_unread),
    ),
    alone(
        "fence-skipped",
        "a Node is deleted without being closed to new pods",
        "which is being deleted",
        |_world, connections| requests::between(connections, requests::without_fence),
    ),
    alone(
        "requests-unread",
        "pods of three processors are taken for ten times smaller ones and bound together",
        "more is bound to a machine than it has",
        |_world, connections| requests::between(connections, requests::smaller_pods),
    ),
    alone(
        "selector-unread",
        "pods for one NodePool are bound to the Nodes of any",
        "was refused by its kubelet",
        |_world, connections| requests::between(connections, requests::selectors_unread),
    ),
    alone(
        "empty-list-believed",
        "claims that a list suddenly lacks are gone at once",
        "its limit is",
        |_world, connections| requests::between(connections, requests::empty_lists_filled),
    ),
    alone(
        "asks-in-a-circle",
        "each change of a claim is a reason to read it again, thousands of times",
        "times for something in second",
        |_world, connections| requests::between(connections, requests::asks_again),
    ),
];

/// One that no check of a world can find, as its time stands still.
pub(crate) static HANGING: Mutation = alone(
    "waits-for-nothing",
    "who makes a claim goes round for ever and waits for nothing",
    "a world hangs: second ",
    |_world, connections| requests::between(connections, requests::goes_round),
);

/// The mutation of a name, or which there are.
pub(crate) fn named(name: &str) -> Result<&'static Mutation, String> {
    let all = || ALL.iter().chain([&HANGING]);
    all().find(|known| known.name == name).ok_or_else(|| {
        let names: Vec<&str> = all().map(|known| known.name).collect();
        format!("--mutation takes one of {}, not `{name}`", names.join(", "))
    })
}
