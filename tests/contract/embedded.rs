//! The embedded API server as the test uses it: a new one for every case, on virtual time.

use std::sync::Arc;

use tonnage::sim::api_server::ApiServer;
use tonnage::sim::clock::VirtualClock;
use tonnage::sim::faults::Calm;
use tonnage::sim::history::{Detail, History};
use tonnage::sim::life::Life;
use tonnage::sim::runtime;
use tonnage::world::World;

use crate::play::{self, Answer};
use crate::real::space_of;
use crate::script::Case;

/// Plays every case.
pub(crate) fn play(cases: &[Case], space: &str) -> Vec<Vec<Answer>> {
    let played = cases.iter().enumerate().map(|(number, case)| {
        let space = space_of(space, number);
        runtime::run(async move {
            let clock = VirtualClock::start();
            let history = History::new(Arc::clone(&clock), Detail::Events);
            let random = World::new(Arc::clone(&clock), 1).random("api-server");
            let server = ApiServer::new(clock, history, random);
            let client = server.client("contract", Life::new(), Arc::new(Calm));
            play::case(&client, case, &space, || server.compact()).await
        })
        .unwrap()
    });
    played.collect()
}
