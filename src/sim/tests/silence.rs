//! Watches that tell nothing of what happens, and how late that is noticed.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::Mirror;
use crate::sim::api_server::Resource;
use crate::sim::faults::{About, CallFault, Calm, Faults, Journey};
use crate::sim::life::Life;
use crate::sim::scene::node_class;
use crate::sim::{Embedded, Options};
use crate::world::World;

const WHO: &str = "listener";

/// Nothing comes through to anybody until a moment.
#[derive(Debug)]
struct Deaf(Instant);

impl Faults for Deaf {
    fn request(&self, who: &str, method: &http::Method, path: &str) -> Journey {
        Calm.request(who, method, path)
    }

    fn call(&self, who: &str, operation: &str, about: &About) -> (Duration, Option<CallFault>) {
        Calm.call(who, operation, about)
    }

    fn deaf_until(&self, _who: &str) -> Option<Instant> {
        (Instant::now() < self.0).then_some(self.0)
    }
}

/// A world, and who follows it.
struct Stage {
    world: Embedded,
    mirror: Mirror,
    listener: World,
}

impl Stage {
    /// Everything is listed, and every watch is open.
    async fn listening(faults: Arc<dyn Faults>) -> Self {
        let world = Embedded::begin(Options::calm(1));
        let client = world.api.client(WHO, Life::new(), faults);
        let (mirror, listener) = (Mirror::new(), world.world().part(WHO));
        mirror.start(&client, &listener);
        mirror.synced().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        Self {
            world,
            mirror,
            listener,
        }
    }

    /// Makes a node class, and says how long it takes until that is known.
    async fn hears_after(&self, name: &str) -> Duration {
        let begun = Instant::now();
        self.world.apply(node_class(name, "embedded", 20)).unwrap();
        while !self.mirror.view().node_classes.contains_key(name) {
            assert!(
                begun.elapsed() < Duration::from_mins(10),
                "it is never known"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        begun.elapsed()
    }

    async fn end(self) {
        self.listener.shut_down().await;
        self.world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_has_gone_silent_is_begun_anew_once_its_time_is_over() {
    let stage = Stage::listening(Arc::new(Calm)).await;
    assert!(stage.hears_after("before").await < Duration::from_secs(1));
    stage.world.api.silence_watches(WHO, None);
    let after = stage.hears_after("meanwhile").await;
    // It asks for watches of two minutes, and waits for five seconds more.
    let late = Duration::from_mins(2)..Duration::from_secs(130);
    assert!(late.contains(&after), "{after:?}");
    assert!(stage.hears_after("after").await < Duration::from_secs(1));
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_of_another_kind_or_of_somebody_else_that_has_gone_silent_holds_nothing_back() {
    let stage = Stage::listening(Arc::new(Calm)).await;
    stage.world.api.silence_watches(WHO, Some(Resource::Pod));
    stage.world.api.silence_watches("another", None);
    assert!(stage.hears_after("class").await < Duration::from_secs(1));
    stage
        .world
        .api
        .silence_watches(WHO, Some(Resource::NodeClass));
    assert!(stage.hears_after("another").await > Duration::from_mins(1));
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_held_back_for_a_while_comes_at_once_when_that_is_over() {
    let until = Instant::now() + Duration::from_secs(21);
    let stage = Stage::listening(Arc::new(Deaf(until))).await;
    let after = stage.hears_after("meanwhile").await;
    assert!(Instant::now() >= until);
    assert!(after <= Duration::from_secs(21), "{after:?}");
    assert!(stage.hears_after("after").await < Duration::from_secs(1));
    stage.end().await;
}
