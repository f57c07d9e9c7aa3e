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

use self::region::Broken;
use self::requests::{Asked, Way};
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
    change: Change,
}

/// What is put between.
#[derive(Debug)]
enum Change {
    /// A region that is broken in this way.
    Region(Broken),
    /// Somebody who does this with each request to the API server.
    Requests(fn(Asked) -> Way),
    /// Something else.
    Own(fn(&Embedded, Connections) -> Connections),
}

impl Mutation {
    /// Puts it between.
    pub(crate) fn put_between(&self, world: &Embedded, connections: Connections) -> Connections {
        match self.change {
            Change::Region(broken) => region::broken(world, connections, broken),
            Change::Requests(way) => requests::between(connections, way),
            Change::Own(change) => change(world, connections),
        }
    }
}

const fn alone(
    name: &'static str,
    wrong: &'static str,
    found_by: &'static str,
    change: Change,
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
        change: Change::Own(|_world, connections| Connections {
            client: deceived::client(connections.client),
            ..connections
        }),
    },
    Mutation {
        name: "lease-taken-early",
        wrong: "a lease that was renewed a second ago is taken",
        found_by: "took the lease at",
        controllers: Controllers::Two,
        change: Change::Requests(requests::short_promise),
    },
    alone(
        "token-skipped",
        "each call of a launch has a client token of its own",
        "has no claim of its own",
        Change::Region(Broken::FreshToken),
    ),
    alone(
        "double-launch",
        "a launch whose answer is lost is made again at once, as another one",
        "has no claim of its own",
        Change::Region(Broken::SecondCall),
    ),
    alone(
        "lost-answer-is-no",
        "a launch without an answer is taken for one that found no capacity",
        "has no claim of its own",
        Change::Region(Broken::NoMeansNothing),
    ),
    alone(
        "one-too-many",
        "a launch asks for one machine more than it has claims",
        "has no claim of its own",
        Change::Region(Broken::OneMore),
    ),
    alone(
        "tag-skipped",
        "machines do not carry the tag of the launch that they come from",
        "has no claim of its own",
        Change::Region(Broken::NoTag),
    ),
    alone(
        "termination-forgotten",
        "machines are written down as terminated and are not",
        "and was terminated",
        Change::Region(Broken::NoTermination),
    ),
    alone(
        "orphans-kept",
        "machines without a claim are written down as terminated and are not",
        "has had no owner since",
        Change::Region(Broken::OrphansKept),
    ),
    alone(
        "last-machines-kept",
        "who has no work any more cannot end the machines that it ran on",
        "seconds after the last work",
        Change::Region(Broken::LastKept),
    ),
    alone(
        "notice-invented",
        "machines are taken for ones that EC2 has announced to take",
        "that nothing was wrong with",
        Change::Region(Broken::Announced),
    ),
    alone(
        "half-a-list",
        "a list of machines that lacks some is believed more than what EC2 says of each",
        "is gone,",
        Change::Region(Broken::HalfList),
    ),
    alone(
        "foreign-provider-id",
        "whoever carries a provider id is taken for that machine",
        "impostor",
        Change::Region(Broken::Fooled),
    ),
    alone(
        "finalizer-dropped",
        "a claim that is being deleted is let go while its machine runs",
        "is gone,",
        Change::Requests(requests::drops_finalizers),
    ),
    alone(
        "limit-of-nodes-unread",
        "how many nodes a NodePool has is not held against the limit",
        "claims, its limit is",
        Change::Own(|world, connections| requests::with_limit(world, connections, ("nodes", "9"))),
    ),
    alone(
        "limit-of-cpu-unread",
        "the processors of machines are not held against the limit",
        "vCPUs, its limit is",
        Change::Own(|world, connections| requests::with_limit(world, connections, ("cpu", "99"))),
    ),
    alone(
        "limit-of-memory-unread",
        "the memory of machines is not held against the limit",
        "tenths of GiB, its limit is",
        Change::Own(|world, connections| {
            requests::with_limit(world, connections, ("memory", "999Gi"))
        }),
    ),
    alone(
        "pods-unread",
        "pods for one NodePool are thought to fit nowhere",
        "quiet seconds wait",
        Change::Requests(requests::other_pool),
    ),
    alone(
        "idle-kept",
        "machines that nothing runs on are kept",
        "has been idle for",
        Change::Requests(requests::never_empty),
    ),
    alone(
        "stale-read",
        "what a slow watch shows of pods is believed before a machine is terminated",
        "was terminated under",
        Change::Requests(requests::stale_pods),
    ),
    alone(
        "eviction-without-budget",
        "pods are deleted instead of evicted",
        "without asking its disruption budget",
        Change::Requests(requests::deletes_pods),
    ),
    alone(
        "deadline-invented",
        "pods must leave a machine by a time that nobody announced and no NodePool says",
        "without asking its disruption budget",
        Change::Own(requests::with_deadlines),
    ),
    alone(
        "protected-evicted",
        "pods that must not be disrupted are not told apart",
        "evicted the protected pod",
        Change::Requests(requests::protection_unread),
    ),
    alone(
        "fence-skipped",
        "a Node is deleted without being closed to new pods",
        "which is being deleted",
        Change::Requests(requests::without_fence),
    ),
    alone(
        "requests-unread",
        "pods of three processors are taken for ten times smaller ones and bound together",
        "more is bound to a machine than it has",
        Change::Requests(requests::smaller_pods),
    ),
    alone(
        "selector-unread",
        "pods for one NodePool are bound to the Nodes of any",
        "was refused by its kubelet",
        Change::Requests(requests::selectors_unread),
    ),
    alone(
        "empty-list-believed",
        "claims that a list suddenly lacks are gone at once",
        "its limit is",
        Change::Requests(requests::empty_lists_filled),
    ),
    alone(
        "asks-in-a-circle",
        "each change of a claim is a reason to read it again, thousands of times",
        "times for something in second",
        Change::Requests(requests::asks_again),
    ),
];

/// One that no check of a world can find, as its time stands still.
pub(crate) static HANGING: Mutation = alone(
    "waits-for-nothing",
    "who makes a claim goes round for ever and waits for nothing",
    "a world hangs: second ",
    Change::Requests(requests::goes_round),
);

/// The mutation of a name, or which there are.
pub(crate) fn named(name: &str) -> Result<&'static Mutation, String> {
    let all = || ALL.iter().chain([&HANGING]);
    all().find(|known| known.name == name).ok_or_else(|| {
        let names: Vec<&str> = all().map(|known| known.name).collect();
        format!("--mutation takes one of {}, not `{name}`", names.join(", "))
    })
}
