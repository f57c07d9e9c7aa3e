//! Where the API server has no nomination kube-scheduler spreads pods over the nodes that were bought for them, and
//! undoes dense plans. Pods that find no room then are planned again: what that costs is held here, in virtual time, and
//! that it costs nothing where pods may be bound.

use std::sync::LazyLock;

use serde_json::Value;
use tonnage::settings::Mode;
use tonnage::sim::api_server::Resource;
use tonnage::sim::embedded::{ProcessOptions, default_settings};
use tonnage::sim::scene::{Pool, Work, node_class};
use tonnage::sim::{Embedded, Options, runtime};

use crate::waiting::eventually;

/// How much more it costs at most, percent, where pods may be neither nominated nor bound: these bursts cost 4.2 % more
/// together, three of them nothing and the one with the most sizes of pods 17 % (docs/decisions/0012-when-nodes-open.md).
const MOST_PERCENT: u64 = 5;
/// The same where they are bound.
const MOST_PERCENT_BOUND: u64 = 1;

/// Sizes and numbers of pods that arrive at once. None fills a machine alone, so that there is something to undo.
type Burst = &'static [(&'static str, &'static str, u32)];

const BURSTS: [Burst; 6] = [
    &[("2", "4Gi", 50)],
    &[("500m", "512Mi", 60), ("2", "4Gi", 10), ("4", "8Gi", 6)],
    &[("3", "6Gi", 15), ("1", "2Gi", 40)],
    &[("700m", "1Gi", 30), ("3", "8Gi", 15), ("7", "20Gi", 4)],
    &[("1", "6Gi", 20), ("2", "2Gi", 20), ("250m", "3Gi", 25)],
    &[("5", "9Gi", 8), ("1500m", "3Gi", 30), ("300m", "700Mi", 45)],
];

/// What keeps the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeps {
    Nominations,
    Bindings,
    Nothing,
}

/// Buys for a burst until all of it runs. Gives back micro-dollars per hour of every machine that was bought.
async fn bought(burst: Burst, keeps: Keeps) -> u64 {
    let world = Embedded::begin(Options::calm(11));
    let pool = Pool {
        name: "general",
        node_class: "default",
        families: &["c5", "m5", "r5"],
        capacity_types: &["on-demand"],
        taint: None,
        empty_seconds: 30,
        weight: None,
        most_nodes: None,
    };
    world.apply(node_class("default", "embedded", 20)).unwrap();
    world.apply(pool.manifest()).unwrap();
    let mut settings = default_settings(Mode::Run, 20);
    settings.nominate_pods = keeps == Keeps::Nominations;
    settings.bind_pods = keeps == Keeps::Bindings;
    let process = world.start(ProcessOptions::new(11, settings));
    let mut pods = 0;
    for (index, (cpu, memory, count)) in burst.iter().enumerate() {
        let name = format!("burst-{index}");
        let work = Work {
            name: &name,
            cpu,
            memory,
            gpus: 0,
            tolerates: None,
            role: None,
            pods: *count,
            seconds: None,
        };
        pods += usize::try_from(*count).unwrap();
        world.apply(work.deployment()).unwrap();
    }
    eventually("every pod of the burst runs", 3_600, async || {
        let all = world.api.all(Resource::Pod);
        let runs = |pod: &&Value| pod["status"]["phase"] == "Running";
        let running = all.iter().filter(runs).count();
        (running == pods)
            .then_some(())
            .ok_or_else(|| format!("{running} of {pods} run"))
    })
    .await;
    let prices = world.history.since(0).into_iter().filter_map(|line| {
        let is_launch = line.event == "InstanceLaunched";
        is_launch.then(|| {
            line.fields["usdPerHour"]
                .as_str()
                .unwrap()
                .parse::<f64>()
                .unwrap()
        })
    });
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "prices are positive and small"
    )]
    let micros = prices.map(|price| (price * 1e6).round() as u64).sum();
    process.stop().await;
    world.end().await;
    micros
}

/// Micro-dollars per hour of all bursts together with nominations and in another way, and of each.
fn compared(with: Keeps) -> (u64, u64, String) {
    let others = BURSTS.map(|burst| cost(burst, with));
    let costs = format!("micro-dollars per hour: {NOMINATED:?} {others:?}");
    (NOMINATED.iter().sum(), others.iter().sum(), costs)
}

/// Micro-dollars per hour of each burst with nominations, which every other way is compared with.
static NOMINATED: LazyLock<[u64; 6]> =
    LazyLock::new(|| BURSTS.map(|burst| cost(burst, Keeps::Nominations)));

fn cost(burst: Burst, keeps: Keeps) -> u64 {
    runtime::run(bought(burst, keeps)).unwrap()
}

#[test]
fn without_nominations_stragglers_cost_little_more() {
    let (kept, undone, costs) = compared(Keeps::Nothing);
    assert!(undone * 100 <= kept * (100 + MOST_PERCENT), "{costs}");
}

#[test]
fn where_pods_are_bound_there_are_no_stragglers() {
    let (kept, bound, costs) = compared(Keeps::Bindings);
    assert!(bound * 100 <= kept * (100 + MOST_PERCENT_BOUND), "{costs}");
}
