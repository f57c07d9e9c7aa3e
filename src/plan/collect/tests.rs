//! What is collected, re-adopted and left alone.

use super::*;
use crate::model::launch::LaunchRecord;
use crate::model::node_pool::NodePool;
use crate::model::offering::CapacityType;
use crate::plan::examples::{at, claim, initialized, instance, launched, node, pod, world};

fn tagged(name: &str) -> Arc<Instance> {
    let mut found = instance(name);
    found.tags.insert(tags::CLAIM.to_owned(), name.to_owned());
    found
        .tags
        .insert(tags::NAME.to_owned(), format!("ip-{name}"));
    Arc::new(found)
}

/// Two complete lists with the same content, the second at `second`.
fn twice(
    first: i64,
    second: i64,
    instances: &[Arc<Instance>],
    snapshot: &Snapshot,
) -> CollectMemory {
    let mut memory = CollectMemory::default();
    memory.listed(at(first), instances.to_vec(), snapshot);
    memory.listed(at(second), instances.to_vec(), snapshot);
    memory
}

fn steps(collection: &Collection) -> Vec<String> {
    collection
        .decision
        .steps
        .iter()
        .map(|step| match step {
            CollectStep::Readopt { instance, node } => {
                format!("readopt {} {}", instance.id, node.name)
            }
            CollectStep::Terminate { instance, .. } => format!("terminate {}", instance.id),
            CollectStep::DeleteClaim { claim, .. } => format!("delete {}", claim.name),
            CollectStep::DeleteNode { node } => format!("delete {}", node.name),
            CollectStep::Tag { instance, .. } => format!("tag {instance}"),
            CollectStep::HeldByPause {
                node_pool,
                instances,
            } => {
                let ids = instances.iter().map(|instance| instance.id.as_str());
                let ids = ids.collect::<Vec<_>>().join(" ");
                format!("{} holds {ids}", node_pool.name)
            }
        })
        .collect()
}

#[test]
fn an_orphan_goes_after_two_lists_a_minute_apart() {
    let snapshot = world(1_000, &[launched("b")], &[], &[]);
    let list = [tagged("a"), tagged("b")];
    let early = twice(900, 959, &list, &snapshot);
    assert_eq!(steps(&decide(&snapshot, &early)), Vec::<String>::new());
    let late = twice(900, 960, &list, &snapshot);
    assert_eq!(steps(&decide(&snapshot, &late)), ["terminate i-a"]);
    // It had a claim in between: the count begins again.
    let mut memory = CollectMemory::default();
    memory.listed(at(800), list.to_vec(), &snapshot);
    let both = world(850, &[launched("a"), launched("b")], &[], &[]);
    memory.listed(at(850), list.to_vec(), &both);
    memory.listed(at(900), list.to_vec(), &snapshot);
    assert_eq!(steps(&decide(&snapshot, &memory)), Vec::<String>::new());
}

#[test]
fn two_lists_that_agree_are_a_minute_apart_also_when_the_clock_was_far_ahead_at_the_first() {
    let snapshot = world(1_000, &[launched("b")], &[], &[]);
    let list = [tagged("a"), tagged("b")];
    let mut memory = twice(7_200, 900, &list, &snapshot);
    assert_eq!(steps(&decide(&snapshot, &memory)), Vec::<String>::new());
    memory.listed(at(960), list.to_vec(), &snapshot);
    assert_eq!(steps(&decide(&snapshot, &memory)), ["terminate i-a"]);
}

#[test]
fn a_claim_counts_that_is_listed_and_not_shown_or_made_anew_under_a_name_that_is() {
    let mut anew = launched("b");
    anew.name = "a".to_owned();
    let mut snapshot = world(1_000, &[launched("a")], &[], &[]);
    let listed = [launched("a"), anew, launched("c")];
    let shown = Arc::clone(&snapshot.claims["a"]);
    add_listed(&mut snapshot, listed.into_iter().map(Arc::new).collect());
    assert_eq!(snapshot.claims.len(), 3);
    assert!(Arc::ptr_eq(&snapshot.claims["a"], &shown));
    let list = ["a", "b", "c", "d"].map(tagged);
    let memory = twice(900, 1_000, &list, &snapshot);
    assert_eq!(steps(&decide(&snapshot, &memory)), ["terminate i-d"]);
}

#[test]
fn an_instance_of_a_batch_that_still_waits_is_no_orphan() {
    let mut waiting = claim("a", &["c5.xlarge/us-east-1a/spot"]);
    waiting.launch = Some(Arc::new(LaunchRecord {
        batch: "batch-1".to_owned(),
        attempt: 1,
        size: 1,
        capacity_type: CapacityType::Spot,
        reservation: None,
        templates: Vec::new(),
    }));
    let snapshot = world(1_000, &[waiting], &[], &[]);
    let mut found = instance("x");
    found
        .tags
        .insert(tags::BATCH.to_owned(), "batch-1".to_owned());
    let memory = twice(800, 1_000, &[Arc::new(found)], &snapshot);
    assert_eq!(steps(&decide(&snapshot, &memory)), Vec::<String>::new());
}

#[test]
fn an_orphan_whose_node_has_pods_is_adopted_again() {
    let snapshot = world(1_000, &[], &[node("a")], &[pod("job", "ip-a")]);
    let memory = twice(900, 1_000, &[tagged("a")], &snapshot);
    assert_eq!(steps(&decide(&snapshot, &memory)), ["readopt i-a ip-a"]);
    let idle = world(1_000, &[], &[node("a")], &[]);
    assert_eq!(steps(&decide(&idle, &memory)), ["terminate i-a"]);
}

#[test]
fn an_orphan_whose_node_is_being_drained_ends_with_its_node() {
    let mut leaving = node("a");
    leaving.deleting_since = Some(at(100));
    leaving.finalizers = vec![labels::TERMINATION_FINALIZER.to_owned()];
    let snapshot = world(1_000, &[], &[leaving.clone()], &[pod("job", "ip-a")]);
    let memory = twice(900, 1_000, &[tagged("a")], &snapshot);
    assert_eq!(steps(&decide(&snapshot, &memory)), Vec::<String>::new());
    // Without the finalizer nobody ends the instance with the Node.
    leaving.finalizers.clear();
    let snapshot = world(1_000, &[], &[leaving], &[]);
    assert_eq!(steps(&decide(&snapshot, &memory)), ["terminate i-a"]);
}

#[test]
fn a_restored_api_server_does_not_cost_a_fleet() {
    let mut snapshot = world(1_000, &[], &[], &[]);
    let names = ["a", "b", "c", "d"];
    let fleet: Vec<Arc<Instance>> = names.into_iter().map(tagged).collect();
    let memory = twice(900, 1_000, &fleet, &snapshot);
    let collection = decide(&snapshot, &memory);
    assert_eq!(steps(&collection), Vec::<String>::new());
    let halt = collection.halt.unwrap();
    assert!(
        halt.message.contains("4 of 4") && halt.message.contains(&halt.token),
        "{}",
        halt.message
    );
    let acknowledge = |snapshot: &mut Snapshot, token: &str| {
        let pool: &mut NodePool = Arc::make_mut(snapshot.node_pools.get_mut("general").unwrap());
        pool.acknowledged_orphans = Some(token.to_owned());
    };
    acknowledge(&mut snapshot, "yes");
    assert!(
        decide(&snapshot, &memory).halt.is_some(),
        "only this very set is acknowledged"
    );
    acknowledge(&mut snapshot, &halt.token);
    assert_eq!(steps(&decide(&snapshot, &memory)).len(), 4);
    // Three are never too many.
    let few = twice(900, 1_000, &fleet[..3], &snapshot);
    assert_eq!(steps(&decide(&snapshot, &few)).len(), 3);
}

#[test]
fn what_was_allowed_once_is_tried_again_without_asking_anew() {
    let mut snapshot = world(1_000, &[], &[], &[]);
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let fleet: Vec<Arc<Instance>> = names.into_iter().map(tagged).collect();
    let mut memory = twice(900, 1_000, &fleet[..5], &snapshot);
    let token = decide(&snapshot, &memory).halt.unwrap().token;
    let pool = Arc::make_mut(snapshot.node_pools.get_mut("general").unwrap());
    pool.acknowledged_orphans = Some(token.clone());
    let allowed = decide(&snapshot, &memory);
    assert_eq!(steps(&allowed).len(), 5);
    memory.asked(&allowed);

    // One ended, four calls failed: this is another set, and its end is decided all the same.
    memory.listed(at(1_060), fleet[1..5].to_vec(), &snapshot);
    let again = decide(&snapshot, &memory);
    assert_eq!((steps(&again).len(), again.halt), (4, None));

    // Others ask for themselves, and hold up nothing that was allowed.
    memory.listed(at(1_120), fleet[1..].to_vec(), &snapshot);
    memory.listed(at(1_180), fleet[1..].to_vec(), &snapshot);
    let others = decide(&snapshot, &memory);
    assert_eq!(
        steps(&others),
        [
            "terminate i-b",
            "terminate i-c",
            "terminate i-d",
            "terminate i-e"
        ]
    );
    let halt = others.halt.unwrap();
    assert!(halt.message.contains("5 of 9"), "{}", halt.message);
    assert_ne!(halt.token, token);
}

#[test]
fn a_claim_whose_instance_vanished_is_deleted_unless_its_node_is_alive() {
    let mut silent = node("a");
    silent.ready = false;
    let claims = [initialized("a"), initialized("b"), launched("c")];
    let snapshot = world(1_000, &claims, &[silent, node("b")], &[]);
    let memory = twice(900, 1_000, &[], &snapshot);
    assert_eq!(steps(&decide(&snapshot, &memory)), ["delete a", "delete c"]);
    let young = world(100, &[launched("c")], &[], &[]);
    let memory = twice(30, 100, &[], &young);
    assert_eq!(steps(&decide(&young, &memory)), Vec::<String>::new());
}

#[test]
fn a_silent_node_without_claim_and_instance_is_deleted() {
    let mut silent = node("a");
    silent.ready = false;
    let mut foreign = silent.clone();
    foreign.name = "ip-f".to_owned();
    foreign.labels.remove(labels::NODE_CLASS);
    let snapshot = world(1_000, &[], &[silent, foreign, node("b")], &[]);
    let memory = twice(900, 1_000, &[], &snapshot);
    assert_eq!(steps(&decide(&snapshot, &memory)), ["delete ip-a"]);
}

#[test]
fn tags_that_are_missing_are_put_on() {
    let snapshot = world(1_000, &[initialized("a"), initialized("b")], &[], &[]);
    let mut memory = CollectMemory::default().with_names(true);
    memory.listed(
        at(1_000),
        vec![Arc::new(instance("a")), tagged("b")],
        &snapshot,
    );
    assert_eq!(steps(&decide(&snapshot, &memory)), ["tag i-a"]);
    let unasked = memory.with_names(false);
    assert!(steps(&decide(&snapshot, &unasked)).is_empty());
}

#[test]
fn the_name_of_the_node_takes_the_place_of_the_node_pools_and_of_no_other() {
    let mut machine = instance("a");
    machine
        .tags
        .insert(tags::NODE_POOL.to_owned(), "general".to_owned());
    let mut missing = |name: &str| {
        machine.tags.insert(tags::NAME.to_owned(), name.to_owned());
        machine.missing_names("general-a", "ip-a")
    };
    assert_eq!(missing("general")[tags::NAME], "ip-a");
    let given = missing("team-1");
    assert_eq!(given.keys().collect::<Vec<_>>(), [tags::CLAIM]);
}

#[test]
fn missing_tags_are_put_on_once_for_each_list_and_not_before_registration_could() {
    let claims = [initialized("a")];
    let snapshot = world(1_000, &claims, &[node("a")], &[]);
    let untagged = [Arc::new(instance("a"))];
    let registered = claims[0].conditions["Registered"].since;
    let mut memory = CollectMemory::default().with_names(true);
    for seconds in [-1, 0, 60, 299] {
        let listed = registered + SignedDuration::from_secs(seconds);
        memory.listed(listed, untagged.to_vec(), &snapshot);
        assert_eq!(
            decide(&snapshot, &memory).decision.steps,
            [],
            "{seconds} s after registration its own tags may be on their way"
        );
    }
    for round in 1..=2 {
        memory.listed(at(1_000 + round * 30), untagged.to_vec(), &snapshot);
        let first = decide(&snapshot, &memory);
        let steps = first.decision.steps.as_slice();
        assert!(matches!(steps, [CollectStep::Tag { instance, .. }] if instance == "i-a"));
        memory.asked(&first);
        assert_eq!(
            decide(&snapshot, &memory).decision.steps,
            [],
            "asked for already"
        );
    }
}

#[test]
fn the_brake_holds_until_somebody_lets_go_whatever_the_fleet_does() {
    let mut snapshot = world(1_000, &[], &[], &[]);
    let names: Vec<String> = (0..60).map(|number| format!("m{number:02}")).collect();
    let fleet: Vec<Arc<Instance>> = names.iter().map(|name| tagged(name)).collect();
    let mut memory = twice(900, 1_000, &fleet[..4], &snapshot);
    let first = decide(&snapshot, &memory);
    let token = first.halt.clone().unwrap().token;
    memory.asked(&first);

    // The fleet grows around them, and one of them is ended by hand: still nobody has allowed anything.
    for (claim, instance) in (0..).zip(&fleet[4..]) {
        let mut own = claim_of(claim);
        own.provider_id = instance.provider_id();
        snapshot.claims.insert(own.name.clone(), Arc::new(own));
    }
    memory.listed(at(1_060), fleet[1..].to_vec(), &snapshot);
    let grown = decide(&snapshot, &memory);
    assert_eq!(steps(&grown), Vec::<String>::new());
    assert!(grown.halt.as_ref().unwrap().message.contains("3 of 59"));
    assert_eq!(
        grown.halt.as_ref().unwrap().token,
        token,
        "somebody is looking at it"
    );
    memory.asked(&grown);

    // The token that the person was told first covers what is left of that set.
    let pool = Arc::make_mut(snapshot.node_pools.get_mut("general").unwrap());
    pool.acknowledged_orphans = Some(token);
    assert_eq!(steps(&decide(&snapshot, &memory)).len(), 3);
}

fn claim_of(number: u32) -> Claim {
    let name = format!("claim-{number}");
    Claim {
        uid: format!("uid-{name}"),
        ..claim(&name, &["c5.xlarge/us-east-1a/spot"])
    }
}

#[test]
fn orphans_of_a_paused_pool_stay_and_are_told_of_once_for_all() {
    let mut snapshot = world(1_000, &[], &[], &[]);
    let mut others = Instance::clone(&tagged("c"));
    others
        .tags
        .insert(tags::NODE_POOL.to_owned(), "other".to_owned());
    let list = [tagged("b"), tagged("a"), Arc::new(others)];
    let memory = twice(900, 1_000, &list, &snapshot);
    let collected = steps(&decide(&snapshot, &memory));
    assert_eq!(
        collected,
        ["terminate i-b", "terminate i-a", "terminate i-c"]
    );
    Arc::make_mut(snapshot.node_pools.get_mut("general").unwrap()).paused = true;
    let paused = decide(&snapshot, &memory);
    assert_eq!(steps(&paused), ["general holds i-a i-b", "terminate i-c"]);
    assert_eq!(paused.halt, None);
}

#[test]
fn a_machine_that_works_is_taken_back_also_while_its_pool_is_paused() {
    let mut snapshot = world(1_000, &[], &[node("a")], &[pod("job", "ip-a")]);
    Arc::make_mut(snapshot.node_pools.get_mut("general").unwrap()).paused = true;
    let memory = twice(900, 1_000, &[tagged("a")], &snapshot);
    assert_eq!(steps(&decide(&snapshot, &memory)), ["readopt i-a ip-a"]);
}

#[test]
fn who_leads_soon_goes_on_from_what_was_seen_and_decides_from_a_list_of_its_own() {
    let snapshot = world(1_000, &[launched("b")], &[], &[]);
    let list = [tagged("a"), tagged("b")];
    let mut first = CollectMemory::default();
    first.listed(at(900), list.to_vec(), &snapshot);
    // Soon enough, too late, and with a clock that was ahead.
    for (begins, collected) in [(1_000, true), (1_080, true), (1_081, false), (899, false)] {
        let mut memory = CollectMemory::default();
        memory.absorb(CollectMemory::read(&first.write().unwrap(), at(begins)).unwrap());
        assert_eq!(steps(&decide(&snapshot, &memory)), Vec::<String>::new());
        memory.listed(at(begins), list.to_vec(), &snapshot);
        let expected = if collected {
            vec!["terminate i-a"]
        } else {
            vec![]
        };
        assert_eq!(steps(&decide(&snapshot, &memory)), expected, "{begins}");
        // Also when it is read only after the first list.
        let mut memory = CollectMemory::default();
        memory.listed(at(begins), list.to_vec(), &snapshot);
        memory.absorb(CollectMemory::read(&first.write().unwrap(), at(begins)).unwrap());
        assert_eq!(steps(&decide(&snapshot, &memory)), expected, "{begins}");
    }
}

#[test]
fn the_brake_holds_whoever_leads_and_whenever() {
    let snapshot = world(1_000, &[], &[], &[]);
    let fleet: Vec<Arc<Instance>> = ["a", "b", "c", "d"].map(tagged).to_vec();
    let mut memory = twice(900, 1_000, &fleet, &snapshot);
    let first = decide(&snapshot, &memory);
    assert!(first.halt.is_some());
    memory.asked(&first);
    let kept = memory.write().unwrap();
    // One of them is ended by hand: few enough to go alone, had nobody been asked. Soon after, and hours later.
    for begins in [1_030, 20_000] {
        let mut memory = CollectMemory::read(&kept, at(begins)).unwrap();
        assert_eq!(
            memory.write(),
            None,
            "what is kept stays until there is a list"
        );
        memory.listed(at(begins), fleet[1..].to_vec(), &snapshot);
        memory.listed(at(begins + 60), fleet[1..].to_vec(), &snapshot);
        let second = decide(&snapshot, &memory);
        assert!(second.halt.is_some());
        assert_eq!(steps(&second), Vec::<String>::new());
    }
}

#[test]
fn what_a_person_was_told_may_be_allowed_whoever_leads_then() {
    let mut snapshot = world(9_000, &[], &[], &[]);
    let fleet: Vec<Arc<Instance>> = (0..10).map(|n| tagged(&format!("m{n}"))).collect();
    let mut memory = twice(900, 1_000, &fleet, &snapshot);
    let first = decide(&snapshot, &memory);
    memory.asked(&first);
    let token = first.halt.unwrap().token;
    let pool = snapshot.node_pools.get_mut("general").unwrap();
    Arc::make_mut(pool).acknowledged_orphans = Some(token);
    // Hours later two lists have to agree again, and half of the machines are gone.
    let mut later = CollectMemory::read(&memory.write().unwrap(), at(9_000)).unwrap();
    later.listed(at(9_000), fleet[5..].to_vec(), &snapshot);
    assert_eq!(steps(&decide(&snapshot, &later)), Vec::<String>::new());
    later.listed(at(9_060), fleet[5..].to_vec(), &snapshot);
    assert_eq!(steps(&decide(&snapshot, &later)).len(), 5);
    // With all of it gone there is nothing to keep.
    later.listed(at(9_120), Vec::new(), &snapshot);
    assert_eq!(later.write().unwrap(), "");
}

#[test]
fn what_is_kept_is_readable_and_nonsense_is_refused() {
    let snapshot = world(1_000, &[launched("b")], &[], &[]);
    let memory = twice(900, 1_000, &[tagged("a")], &snapshot);
    insta::assert_snapshot!(memory.write().unwrap(), @r#"{"listed":"2027-01-15T08:16:40Z","orphans":{"2027-01-15T08:15:00Z":["i-a"]},"vanished":{"2027-01-15T08:15:00Z":["uid-b"]}}"#);
    for text in ["[]", "{}", r#"{"listed":"never"}"#] {
        assert!(CollectMemory::read(text, at(1_000)).is_err(), "{text}");
    }
}

#[test]
fn what_was_not_asked_about_while_its_pool_was_paused_is_asked_about_anew() {
    let mut snapshot = world(1_000, &[], &[], &[]);
    let mut fleet: Vec<Arc<Instance>> = (0..10).map(|n| tagged(&format!("m{n}"))).collect();
    for (number, instance) in fleet.iter_mut().enumerate() {
        let pool = if number < 5 { "other" } else { "general" };
        let of_pool = (tags::NODE_POOL.to_owned(), pool.to_owned());
        Arc::make_mut(instance).tags.extend([of_pool]);
    }
    let mut memory = twice(900, 1_000, &fleet, &snapshot);
    let all = decide(&snapshot, &memory);
    memory.asked(&all);
    let pause = |snapshot: &mut Snapshot, paused| {
        let pool = snapshot.node_pools.get_mut("general").unwrap();
        Arc::make_mut(pool).paused = paused;
    };
    let allow = |snapshot: &mut Snapshot, token: &str| {
        let pool = snapshot.node_pools.get_mut("general").unwrap();
        Arc::make_mut(pool).acknowledged_orphans = Some(token.to_owned());
    };
    pause(&mut snapshot, true);
    let half = decide(&snapshot, &memory);
    let token = half.halt.clone().unwrap().token;
    assert_ne!(token, all.halt.unwrap().token);
    memory.asked(&half);
    allow(&mut snapshot, &token);
    let allowed = decide(&snapshot, &memory);
    let mut ended = steps(&allowed);
    ended.retain(|step| step.starts_with("terminate"));
    assert_eq!(ended.len(), 5, "what the person compared");
    memory.asked(&allowed);
    pause(&mut snapshot, false);
    memory.listed(at(1_060), fleet[5..].to_vec(), &snapshot);
    let rest = decide(&snapshot, &memory);
    assert_eq!(steps(&rest), Vec::<String>::new());
    assert!(rest.halt.is_some());
}
