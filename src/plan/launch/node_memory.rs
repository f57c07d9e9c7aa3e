//! How much memory machines of a type have, as their Nodes say.
//!
//! Given registered Nodes and what EC2 says of their machines; given back bytes by type and kind of image,
//! to plan with instead of a share that is taken to be lost everywhere. The least that was seen counts: a
//! figure that is too low wastes a little of each machine, one that is too high buys machines that their
//! pods do not fit on. Losing it costs nothing but what was learned.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::assign::offering_of;
use crate::api::conditions::ConditionType;
use crate::api::labels;
use crate::model::claim::Claim;
use crate::model::node::Node;
use crate::model::resources::MEMORY;
use crate::model::snapshot::Snapshot;
use crate::plan::instances::{InstanceView, Sight};

const MIB: i64 = 1 << 20;
/// How long a figure serves that no Node has confirmed: work that comes once a quarter still finds it.
const KEPT_UNSEEN: SignedDuration = SignedDuration::from_hours(24 * 100);
/// Confirmations closer to each other are one, so that what is kept does not change all the time.
const CONFIRMED_AGAIN: SignedDuration = SignedDuration::from_hours(24);
/// Figures that are kept at most, the latest confirmed first: some 900 types are sold, for a few kinds of
/// images each.
const MOST_ENTRIES: usize = 4_000;
/// The form of the text.
const VERSION: u32 = 1;

/// What one Node says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryReport {
    /// Which machines are alike.
    pub kind: String,
    /// For example `c5.xlarge`.
    pub instance_type: String,
    /// The image that the machine was started from.
    pub image: String,
    /// `status.capacity.memory`, bytes.
    pub bytes: i64,
}

/// The least that was seen of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    mebibytes: i64,
    image: String,
    /// When a Node last said so.
    at: Timestamp,
}

/// The memory of machines, by kind of image and type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeMemory(BTreeMap<(String, String), Seen>);

/// A text that is no such memory.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableMemory {
    /// It has another form.
    #[error("the learned memory of Nodes cannot be read; delete the entry to begin anew")]
    Form(#[from] serde_json::Error),
    /// A later release wrote it.
    #[error(
        "the learned memory of Nodes has version {0}, and {VERSION} is known; delete the entry to begin anew"
    )]
    Version(u32),
}

#[derive(Debug, Serialize, Deserialize)]
struct Text {
    version: u32,
    nodes: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    kind: String,
    instance_type: String,
    mebibytes: i64,
    image: String,
    at: Timestamp,
}

/// What registered Nodes say of their memory. `kinds` has the kind of image of each node class. Only a Node
/// that its claim, its label and EC2 agree about is heard, and only if a machine of the type can have
/// so much.
pub fn memory_reports(
    snapshot: &Snapshot,
    instances: &InstanceView,
    kinds: &BTreeMap<String, String>,
) -> Vec<MemoryReport> {
    snapshot
        .nodes_of_claims()
        .into_iter()
        .filter_map(|(name, node)| {
            let claim = snapshot.claims.get(name)?;
            report(snapshot, instances, kinds, claim, node)
        })
        .collect()
}

fn report(
    snapshot: &Snapshot,
    instances: &InstanceView,
    kinds: &BTreeMap<String, String>,
    claim: &Claim,
    node: &Node,
) -> Option<MemoryReport> {
    let registered = claim.is(ConditionType::Registered.as_str());
    if !registered || claim.node_name != node.name || claim.provider_id != node.provider_id {
        return None;
    }
    let Sight::Seen(instance) = instances.get(claim.instance_id()?) else {
        return None;
    };
    let instance_type = &instance.offering.instance_type;
    let bought = offering_of(claim)?.instance_type;
    let said = node.labels.get(labels::INSTANCE_TYPE)?;
    if *instance_type != bought || **instance_type != **said || instance.image_id.is_empty() {
        return None;
    }
    let class = snapshot.node_classes.get(&claim.node_class)?;
    let sold = class.catalogue.types.get(instance_type)?;
    let bytes = node.capacity.get(MEMORY);
    sold.may_have_memory(bytes).then(|| MemoryReport {
        kind: kinds.get(&claim.node_class).cloned().unwrap_or_default(),
        instance_type: instance_type.to_string(),
        image: instance.image_id.clone(),
        bytes,
    })
}

/// The images that node classes select now.
pub fn images_in_use(snapshot: &Snapshot) -> BTreeSet<String> {
    let classes = snapshot.node_classes.values();
    let images = classes.flat_map(|class| class.images.values().flatten());
    images.map(|image| image.id.clone()).collect()
}

impl NodeMemory {
    /// Learns what a Node says; true when it changes what is planned with. A Node with an image that no
    /// class selects any more says nothing about what will be launched; what such an image taught serves
    /// until a Node with its successor says something.
    pub fn learn(
        &mut self,
        report: &MemoryReport,
        in_use: &BTreeSet<String>,
        now: Timestamp,
    ) -> bool {
        let said = Seen {
            // Machines of one type differ by some KiB.
            mebibytes: report.bytes / MIB,
            image: report.image.clone(),
            at: now,
        };
        if report.kind.is_empty() || said.mebibytes <= 0 || !in_use.contains(&report.image) {
            return false;
        }
        let key = (report.kind.clone(), report.instance_type.clone());
        let Some(known) = self.0.get_mut(&key) else {
            self.0.insert(key, said);
            return true;
        };
        let is_outdated = !in_use.contains(&known.image);
        if is_outdated || said.mebibytes < known.mebibytes {
            let news = said.mebibytes != known.mebibytes;
            *known = said;
            return news;
        }
        let is_old = now.duration_since(known.at) >= CONFIRMED_AGAIN;
        if is_old && said.mebibytes == known.mebibytes {
            known.at = now;
        }
        false
    }

    /// Bytes by type for a kind of image.
    pub fn of_kind(&self, kind: &str) -> BTreeMap<String, i64> {
        let of_kind = self
            .0
            .iter()
            .filter(|((known, _type), _seen)| known == kind);
        of_kind
            .map(|((_kind, instance_type), seen)| {
                (instance_type.clone(), seen.mebibytes.saturating_mul(MIB))
            })
            .collect()
    }

    /// Forgets what no Node has confirmed for long.
    pub fn forget(&mut self, now: Timestamp) {
        self.0
            .retain(|_key, seen| now.duration_since(seen.at) < KEPT_UNSEEN);
    }

    /// As text, for [`NodeMemory::read`].
    pub fn write(&self) -> String {
        let nodes = self.0.iter().map(|((kind, instance_type), seen)| Entry {
            kind: kind.clone(),
            instance_type: instance_type.clone(),
            mebibytes: seen.mebibytes,
            image: seen.image.clone(),
            at: seen.at,
        });
        let text = Text {
            version: VERSION,
            nodes: latest(nodes.collect()),
        };
        // Names, numbers and times can always be written.
        serde_json::to_string(&text).unwrap_or_default()
    }

    /// From the text of [`NodeMemory::write`], which may be old, and may come from anybody.
    ///
    /// # Errors
    /// The text is not of that form, or of a later version.
    pub fn read(text: &str, now: Timestamp) -> Result<Self, UnreadableMemory> {
        /// The one field that every version has.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let version = serde_json::from_str::<Versioned>(text)?.version;
        if version != VERSION {
            return Err(UnreadableMemory::Version(version));
        }
        let text: Text = serde_json::from_str(text)?;
        let mut read = Self::default();
        for entry in latest(text.nodes) {
            if entry.mebibytes <= 0 {
                continue;
            }
            let seen = Seen {
                mebibytes: entry.mebibytes,
                image: entry.image,
                at: entry.at.min(now),
            };
            read.0.insert((entry.kind, entry.instance_type), seen);
        }
        read.forget(now);
        Ok(read)
    }

    /// Takes over what was known before. Of one image the less counts; of two, what was learned since.
    pub fn absorb(&mut self, earlier: Self) {
        for (key, seen) in earlier.0 {
            let known = self.0.entry(key).or_insert_with(|| seen.clone());
            if known.image == seen.image && seen.mebibytes < known.mebibytes {
                *known = seen;
            }
        }
    }
}

/// The entries that were confirmed last, in order of kind and type.
fn latest(mut entries: Vec<Entry>) -> Vec<Entry> {
    let name = |entry: &Entry| (entry.kind.clone(), entry.instance_type.clone());
    if entries.len() > MOST_ENTRIES {
        entries.sort_by(|one, other| {
            let by_time = other.at.cmp(&one.at);
            by_time.then_with(|| name(one).cmp(&name(other)))
        });
        entries.truncate(MOST_ENTRIES);
    }
    entries.sort_by_cached_key(name);
    entries
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::claim::ConditionStatus;
    use crate::model::instance::Instance;
    use crate::model::node_class::Image;
    use crate::plan::examples::{at, booted, initialized, instance, node_class, set, world};

    const DAY: i64 = 86_400;
    const GIB: i64 = 1 << 30;

    fn said(mebibytes: i64, image: &str) -> MemoryReport {
        MemoryReport {
            kind: "AL2023".to_owned(),
            instance_type: "c5.xlarge".to_owned(),
            image: image.to_owned(),
            bytes: mebibytes * MIB + 4_096,
        }
    }

    fn images(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    fn known(memory: &NodeMemory) -> Option<i64> {
        let of_kind = memory.of_kind("AL2023");
        of_kind.get("c5.xlarge").map(|bytes| bytes / MIB)
    }

    #[test]
    fn the_least_of_one_image_counts_and_is_news_once() {
        let mut memory = NodeMemory::default();
        let in_use = images(&["ami-1", "ami-2"]);
        for (mebibytes, image, news, then) in [
            (7_700, "ami-1", true, 7_700),
            (7_700, "ami-1", false, 7_700),
            (7_650, "ami-1", true, 7_650),
            (7_800, "ami-1", false, 7_650),
            (7_800, "ami-2", false, 7_650),
            (7_600, "ami-2", true, 7_600),
        ] {
            let learned = memory.learn(&said(mebibytes, image), &in_use, at(0));
            assert_eq!(
                (learned, known(&memory)),
                (news, Some(then)),
                "{mebibytes} {image}"
            );
        }
        assert_eq!(memory.of_kind("Bottlerocket"), BTreeMap::new());
        let bytes = memory.of_kind("AL2023")["c5.xlarge"];
        assert_eq!(bytes % MIB, 0, "whole MiB");
    }

    #[test]
    fn a_new_image_takes_the_old_ones_place_with_its_first_node() {
        let mut memory = NodeMemory::default();
        memory.learn(&said(7_600, "ami-1"), &images(&["ami-1"]), at(0));
        // Until then the old figure is the best there is.
        assert_eq!(known(&memory), Some(7_600));
        assert!(memory.learn(&said(7_700, "ami-2"), &images(&["ami-2"]), at(9)));
        assert_eq!(known(&memory), Some(7_700));
        assert!(!memory.learn(&said(7_500, "ami-1"), &images(&["ami-2"]), at(9)));
        assert_eq!(known(&memory), Some(7_700), "an old Node teaches nothing");
    }

    #[test]
    fn a_figure_is_forgotten_when_nobody_confirms_it() {
        let mut memory = NodeMemory::default();
        let in_use = images(&["ami-1"]);
        memory.learn(&said(7_600, "ami-1"), &in_use, at(0));
        memory.forget(at(100 * DAY - 1));
        assert_eq!(known(&memory), Some(7_600));
        // One that says the same keeps it; one that says more does not.
        memory.learn(&said(7_600, "ami-1"), &in_use, at(60 * DAY));
        memory.learn(&said(7_700, "ami-1"), &in_use, at(150 * DAY));
        memory.forget(at(160 * DAY - 1));
        assert_eq!(known(&memory), Some(7_600));
        memory.forget(at(160 * DAY));
        assert_eq!(known(&memory), None);
    }

    #[test]
    fn a_restart_forgets_nothing_and_believes_no_future() {
        let mut memory = NodeMemory::default();
        memory.learn(&said(7_600, "ami-1"), &images(&["ami-1"]), at(5));
        let text = memory.write();
        assert_eq!(NodeMemory::read(&text, at(9)).unwrap(), memory);
        let mut anew = NodeMemory::default();
        anew.learn(&said(7_650, "ami-1"), &images(&["ami-1"]), at(20));
        anew.absorb(memory.clone());
        assert_eq!(known(&anew), Some(7_600), "of one image the less");
        let mut after_release = NodeMemory::default();
        after_release.learn(&said(7_650, "ami-2"), &images(&["ami-2"]), at(20));
        after_release.absorb(memory);
        assert_eq!(known(&after_release), Some(7_650), "what was learned since");
        let future = text.replace("2027", "9999");
        let read = NodeMemory::read(&future, at(3)).unwrap();
        assert!(read.0.values().all(|seen| seen.at == at(3)));
    }

    #[test]
    fn a_text_from_anybody_is_read_or_refused() {
        let entry = r#"{"kind":"AL2023","instanceType":"c5.xlarge","mebibytes":7600,"image":"ami-1",
            "at":"2027-01-15T08:00:00Z","what":"is new"}"#;
        let text = |version: u32, entry: &str| {
            format!(r#"{{"version":{version},"nodes":[{entry}],"more":1}}"#)
        };
        let read = NodeMemory::read(&text(1, entry), at(0)).unwrap();
        assert_eq!(known(&read), Some(7_600), "unknown fields say nothing");
        let negative = entry.replace("7600", "-1");
        let nothing = NodeMemory::read(&text(1, &negative), at(0)).unwrap();
        assert_eq!(nothing, NodeMemory::default());
        for bad in [
            "",
            "[]",
            "{}",
            &text(2, entry),
            &text(1, "{}"),
            &text(1, "7"),
        ] {
            assert!(NodeMemory::read(bad, at(0)).is_err(), "{bad}");
        }
        let later = NodeMemory::read(&text(2, "{}"), at(0)).unwrap_err();
        assert!(later.to_string().contains("version 2"), "{later}");
    }

    #[test]
    fn only_so_many_figures_are_kept() {
        let mut memory = NodeMemory::default();
        let in_use = images(&["ami-1"]);
        for number in 0..MOST_ENTRIES + 10 {
            let report = MemoryReport {
                instance_type: format!("t{number}.large"),
                ..said(7_600, "ami-1")
            };
            memory.learn(&report, &in_use, at(i64::try_from(number).unwrap()));
        }
        let read = NodeMemory::read(&memory.write(), at(DAY)).unwrap();
        assert_eq!(read.0.len(), MOST_ENTRIES);
        let of_kind = read.of_kind("AL2023");
        assert!(!of_kind.contains_key("t0.large") && of_kind.contains_key("t10.large"));
    }

    /// What a registered Node `ip-a` teaches after something was changed.
    fn taught(change: impl FnOnce(&mut Claim, &mut Node, &mut Instance)) -> Vec<MemoryReport> {
        let mut claim = initialized("a");
        for (key, value) in [
            (labels::INSTANCE_TYPE, "c5.xlarge"),
            (labels::ZONE, "us-east-1a"),
            (labels::CAPACITY_TYPE, "on-demand"),
        ] {
            Arc::make_mut(&mut claim.labels).insert(key.to_owned(), value.to_owned());
        }
        let mut node = booted("a");
        node.labels
            .insert(labels::INSTANCE_TYPE.to_owned(), "c5.xlarge".to_owned());
        node.capacity.set(MEMORY, 7 * GIB);
        let mut machine = instance("a");
        change(&mut claim, &mut node, &mut machine);
        let mut instances = InstanceView::default();
        instances.listed(&[Arc::new(machine)], at(100));
        let mut class = node_class();
        class
            .images
            .insert("amd64".to_owned(), vec![Image::new("ami-1", "")]);
        let types = &mut Arc::make_mut(&mut class.catalogue).types;
        let sold = Arc::make_mut(types.get_mut("c5.xlarge").unwrap());
        sold.labels
            .insert(labels::INSTANCE_MEMORY.to_owned(), "8192".to_owned());
        let mut snapshot = world(100, &[claim], &[node], &[]);
        snapshot
            .node_classes
            .insert("default".to_owned(), Arc::new(class));
        assert_eq!(images_in_use(&snapshot), images(&["ami-1"]));
        let kinds = BTreeMap::from([("default".to_owned(), "AL2023".to_owned())]);
        memory_reports(&snapshot, &instances, &kinds)
    }

    #[test]
    fn a_registered_node_teaches() {
        let expected = MemoryReport {
            bytes: 7 * GIB,
            ..said(0, "ami-1")
        };
        assert_eq!(taught(|_claim, _node, _machine| {}), [expected]);
    }

    #[test]
    fn a_node_that_lies_teaches_nothing() {
        type Lie = fn(&mut Claim, &mut Node, &mut Instance);
        let lies: [(&str, Lie); 7] = [
            ("more than EC2 sells", |_claim, node, _machine| {
                node.capacity.set(MEMORY, 8 * GIB + 1);
            }),
            ("less than half", |_claim, node, _machine| {
                node.capacity.set(MEMORY, 4 * GIB - 1);
            }),
            ("nothing", |_claim, node, _machine| {
                node.capacity.set(MEMORY, 0);
            }),
            ("another type", |_claim, node, _machine| {
                let other = "c5.2xlarge".to_owned();
                node.labels.insert(labels::INSTANCE_TYPE.to_owned(), other);
            }),
            ("EC2 knows better", |_claim, _node, machine| {
                machine.offering = "c5.2xlarge/us-east-1a/on-demand".parse().unwrap();
            }),
            ("not registered", |claim, _node, _machine| {
                set(claim, "Registered", ConditionStatus::Unknown, at(50));
            }),
            ("an impostor", |claim, node, _machine| {
                node.name = "ip-x".to_owned();
                claim.node_name = "ip-a".to_owned();
            }),
        ];
        for (name, lie) in lies {
            assert_eq!(taught(lie), [], "{name}");
        }
    }
}
