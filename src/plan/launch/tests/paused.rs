//! Claims of a NodePool that a person has paused.

use super::*;

/// A pause stops what was not bought yet; a record that was written is settled as ever.
#[test]
fn nothing_more_is_bought_for_a_paused_pool() {
    let mut memory = LaunchMemory::new(at(0));
    let running = world(1, &[claim("a", ALL)], &[], &[]);
    let (record, with_record) = recorded(&proposal(decide(&running, &memory)));
    let pause = |snapshot: &mut Snapshot| {
        Arc::make_mut(snapshot.node_pools.get_mut("general").unwrap()).paused = true;
    };
    let mut snapshot = world(1, &[claim("a", ALL)], &[], &[]);
    pause(&mut snapshot);
    match only(decide(&snapshot, &memory)) {
        LaunchStep::Report { change, .. } => {
            assert_eq!(change.reason.as_str(), PAUSED);
            assert!(
                change.message.contains("tonnage.dev/paused"),
                "{}",
                change.message
            );
        }
        other => panic!("{other:#?}"),
    }
    let mut snapshot = world(1, &with_record, &[], &[]);
    pause(&mut snapshot);
    memory.chosen(&record, at(1));
    assert!(matches!(
        only(decide(&snapshot, &memory)),
        LaunchStep::Call(batch) if batch.record == record
    ));
}
