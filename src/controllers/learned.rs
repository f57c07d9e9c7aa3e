//! Keeps what was learned of EC2, and what was seen without an owner, across restarts and terms.
//!
//! Reads it once when this process comes to act, and writes it from time to time and at the end when
//! it has changed. Nothing fails with it, and only the collection of what has no owner waits for the first read, for a while:
//! without it, it is learned anew.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use super::context::Acting;
use super::node_memory;
use crate::api::labels::{
    LEARNED_HAZARDS, LEARNED_MEMORY, LEARNED_NO_SHOWS, LEARNED_ORPHANS, LEARNED_SHORTAGES,
    LEARNED_TEMPLATES,
};
use crate::cluster::apply::{Learned, LearnedPlace, WriteError};
use crate::plan::collect::CollectMemory;
use crate::plan::launch::{Hazards, NoShows, NodeMemory, Shortages, TemplateUse};

/// Time between two writes at least: beliefs outlive a minute, and the API server has other work.
const WRITE_AGAIN: Duration = Duration::from_secs(30);
/// The same where something should be kept soon.
const WRITE_SOON_AGAIN: Duration = Duration::from_secs(5);
/// How long the first read rests after a failure.
const READ_AGAIN: Duration = Duration::from_secs(5);
/// How long the last write may take when the process stops.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// Reads and keeps until the world stops or the term is over.
pub async fn keep(context: Arc<Acting>) {
    let Some(settings) = context.settings.learned.clone() else {
        context.kept_is_read();
        let stop = context.world.stop().clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            _over = context.term.within(only_look(&context)) => {}
        }
        return;
    };
    let namespace = settings
        .namespace
        .unwrap_or_else(|| context.kubernetes.default_namespace().to_owned());
    let mut memory = Memory {
        place: LearnedPlace {
            namespace,
            name: settings.name,
        },
        known: Learned::default(),
        kept: Default::default(),
        no_shows: NoShows::default().write(),
        warned: false,
    };
    let stop = context.world.stop().clone();
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        _over = context.term.within(memory.follow(&context)) => {}
    }
    let last = context.term.within(memory.write(&context));
    // Out of time: what is not written is learned anew.
    tokio::time::timeout(LAST_WRITE, last).await.ok();
}

/// What has to happen whether anything is kept or not: machine-hours count, and what has faded goes.
fn look(context: &Acting) {
    let snapshot = context.snapshot();
    let now = context.now();
    context.launches(|memory| {
        memory.hazards.look(&snapshot);
        memory.shortages.forget(now);
        memory.hazards.forget(now);
    });
    node_memory::learn(context, &snapshot);
    context.tell_outlook();
}

async fn only_look(context: &Acting) {
    loop {
        tokio::time::sleep(WRITE_AGAIN).await;
        look(context);
    }
}

/// What is known of the ConfigMap.
struct Memory {
    place: LearnedPlace,
    known: Learned,
    kept: (Shortages, Hazards, TemplateUse, NodeMemory),
    /// The no-shows among it, as text: when machines joined changes all the time and is not kept.
    no_shows: String,
    warned: bool,
}

impl Memory {
    async fn follow(&mut self, context: &Acting) {
        let mut read = false;
        loop {
            if !read {
                match self.read(context).await {
                    Ok(()) => {
                        read = true;
                        context.kept_is_read();
                    }
                    Err(error) => self.complain(&error),
                }
            }
            let rest = if read { WRITE_AGAIN } else { READ_AGAIN };
            tokio::time::sleep(WRITE_SOON_AGAIN).await;
            context
                .until_kept(rest.saturating_sub(WRITE_SOON_AGAIN))
                .await;
            look(context);
            // What was kept before is never written over unread.
            if read {
                self.write(context).await;
            }
        }
    }

    /// Reads what is kept and takes it over.
    async fn read(&mut self, context: &Acting) -> Result<(), WriteError> {
        self.known = context.kubernetes.read_learned(&self.place).await?;
        let now = context.now();
        if let Some(read) = self.entry(LEARNED_SHORTAGES, |text| Shortages::read(text, now)) {
            context.launches(|memory| memory.shortages.absorb(read));
        }
        if let Some(read) = self.entry(LEARNED_HAZARDS, |text| Hazards::read(text, now)) {
            context.launches(|memory| memory.hazards.absorb(read, now));
        }
        if let Some(read) = self.entry(LEARNED_TEMPLATES, |text| TemplateUse::read(text, now)) {
            context.launches(|memory| memory.templates.absorb(read));
        }
        if let Some(read) = self.entry(LEARNED_MEMORY, |text| NodeMemory::read(text, now)) {
            context.launches(|memory| memory.node_memory.absorb(read));
            node_memory::apply(context);
        }
        if let Some(read) = self.entry(LEARNED_NO_SHOWS, |text| NoShows::read(text, now)) {
            context.launches(|memory| memory.no_shows.absorb(read));
        }
        self.read_orphans(context);
        context.tell_outlook();
        Ok(())
    }

    /// Takes over what was seen without an owner.
    fn read_orphans(&self, context: &Acting) {
        let now = context.now();
        if let Some(read) = self.entry(LEARNED_ORPHANS, |text| CollectMemory::read(text, now)) {
            context.sights(|memory| memory.absorb(read));
        }
    }

    /// An entry, if it is there and can be read.
    fn entry<T, E: Display>(
        &self,
        key: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let name = &self.place.name;
        read(self.known.entry(key)?)
            .inspect_err(|error| tracing::warn!(name, key, "{error}"))
            .ok()
    }

    /// Writes what has changed.
    async fn write(&mut self, context: &Acting) {
        let now = context.now();
        let learned = context.launches(|memory| {
            (
                memory.shortages.clone(),
                memory.hazards.clone(),
                memory.templates.clone(),
                memory.node_memory.clone(),
            )
        });
        let no_shows = context.launches(|memory| memory.no_shows.write());
        let orphans = context.sights(|memory| memory.write());
        let kept_orphans = self.known.entry(LEARNED_ORPHANS).unwrap_or_default();
        let same = no_shows == self.no_shows
            && orphans
                .as_ref()
                .is_none_or(|orphans| orphans == kept_orphans)
            && learned.0 == self.kept.0
            && learned.1.says_the_same(&self.kept.1)
            && learned.2 == self.kept.2
            && learned.3 == self.kept.3;
        if same {
            return;
        }
        let mut entries = vec![
            (LEARNED_SHORTAGES, learned.0.write(now)),
            (LEARNED_HAZARDS, learned.1.write(now)),
            (LEARNED_TEMPLATES, learned.2.write()),
            (LEARNED_MEMORY, learned.3.write()),
            (LEARNED_NO_SHOWS, no_shows.clone()),
        ];
        entries.extend(orphans.map(|orphans| (LEARNED_ORPHANS, orphans)));
        let kubernetes = &context.kubernetes;
        match kubernetes
            .write_learned(&self.place, &self.known, &entries)
            .await
        {
            Ok(known) => {
                self.known = known;
                self.kept = learned;
                self.no_shows = no_shows;
            }
            Err(error) => {
                self.complain(&error);
                // Somebody else wrote or deleted it: next time it is written over what is there then.
                if let Ok(known) = kubernetes.read_learned(&self.place).await {
                    self.known = known;
                    self.read_orphans(context);
                }
            }
        }
    }

    /// Once is enough: it is repeated by itself, and nothing depends on it.
    fn complain(&mut self, error: &WriteError) {
        if self.warned {
            tracing::debug!("what was learned is not kept: {error}");
        } else {
            tracing::warn!("what was learned is not kept: {error}");
            self.warned = true;
        }
    }
}
