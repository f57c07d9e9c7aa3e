//! The demo's parts; the whole of it is played by its command.

use super::*;
use crate::sim::runtime;
use crate::sim::tests::at;
use crate::world::World;

struct Nobody;

impl Audience for Nobody {
    fn look(&mut self, _play: &Play) {}
}

/// Who looks on may take any time: only the world itself can hang.
struct Slow;

impl Audience for Slow {
    fn look(&mut self, _play: &Play) {
        assert!(!watchdog::is_watched());
    }
}

#[test]
fn a_day_is_watched_while_its_world_moves_and_not_while_somebody_looks() {
    runtime::run(async {
        let mut play = Play::begin(2).unwrap();
        let (sender, mut within) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(500)).await;
            sender.send(watchdog::is_watched()).unwrap();
        });
        play.pass(&mut Slow, 1).await;
        assert_eq!(within.try_recv(), Ok(true));
    })
    .unwrap();
}

#[test]
fn the_scene_goes_from_nothing_to_fifty_executors_to_nothing() {
    let summary = runtime::run(async {
        let mut play = Play::begin(2)?;
        play.scene(&mut Nobody).await?;
        Ok::<_, DemoError>(play.summary())
    });
    let summary = summary.unwrap().unwrap();
    assert_eq!(summary.pods, 53);
    assert_eq!(summary.instances_left, 0);
    assert_eq!(summary.voluntary_evictions_of_protected_pods, 0);
    let usd = |text: &str| text.parse::<f64>().unwrap();
    assert!(usd(&summary.usd_total) > usd(&summary.usd_lower_bound));
    assert!(summary.virtual_seconds < 900, "{summary:?}");
}

#[test]
fn a_day_has_hundreds_of_pods_and_is_the_same_for_a_seed() {
    let day = |seed| {
        runtime::run(async {
            let clock = crate::sim::clock::VirtualClock::start();
            arrivals(&World::new(clock, seed).random("demo/day"))
        })
        .unwrap()
    };
    let pods: u64 = day(1)
        .iter()
        .filter_map(|arrival| arrival.manifest["spec"]["completions"].as_u64())
        .sum();
    assert!(pods > 300, "{pods}");
    let text = |seed| format!("{:?}", day(seed));
    assert_eq!(text(1), text(1));
    assert_ne!(text(1), text(2));
    assert!(
        day(3)
            .windows(2)
            .all(|pair| pair[0].second <= pair[1].second)
    );
}

#[test]
fn waits_are_counted_from_creation_and_evictions_from_lost_machines_are_not_voluntary() {
    runtime::run(async {
        let clock = crate::sim::clock::VirtualClock::start();
        assert_eq!(clock.now(), at(0));
        let history = crate::sim::history::History::new(clock, crate::sim::history::Detail::Events);
        let mut tally = Tally::default();
        history.event("PodCreated", serde_json::json!({ "pod": "default/a" }));
        tokio::time::sleep(Duration::from_secs(40)).await;
        history.event("PodStarted", serde_json::json!({ "pod": "default/a" }));
        for (node, instance) in [("one", "i-1"), ("two", "i-2")] {
            history.event(
                "NodeJoined",
                serde_json::json!({ "node": node, "instance": instance }),
            );
        }
        history.event(
            "InterruptionNotice",
            serde_json::json!({ "instance": "i-1" }),
        );
        for node in ["one", "two"] {
            history.event(
                "PodEvicted",
                serde_json::json!({ "pod": "default/a", "node": node }),
            );
        }
        tally.read(&history);
        assert_eq!(tally.percentile(50), Some(40));
        assert_eq!((tally.interruptions, tally.voluntary_evictions), (1, 1));
    })
    .unwrap();
}
