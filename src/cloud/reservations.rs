//! Which capacity reservations a node class selects, and what they come to.
//!
//! Given what EC2 says of the active reservations of the account, those that other accounts share with it
//! included, the terms of a class and what can be bought through it; given back the selected reservations
//! in order of id, and in words the terms that select none. Nothing is asked or remembered here.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::Unresolved;
use super::catalogue::Terms;
use super::terms::{self, describe};
use crate::api::node_class::selectors::{CapacityReservationSelectorTerm, InstanceMatchCriteria};
use crate::model::money::UsdPerHour;
use crate::model::offering::{CapacityType, Catalogue, Offering, OfferingKey, Outlook};
use crate::model::reservation::{Reservation, ReservationKind};

const PATH: &str = "spec.capacityReservationSelectorTerms";

/// A reservation as EC2 describes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Described {
    /// For example `cr-0123456789abcdef0`.
    pub id: String,
    /// The account that owns it.
    pub owner: String,
    /// For example `c5.xlarge`.
    pub instance_type: String,
    /// For example `us-east-1a`.
    pub zone: String,
    /// `open` or `targeted`.
    pub matching: String,
    /// Its kind.
    pub kind: ReservationKind,
    /// Its owner may take the machines back.
    pub interruptible: bool,
    /// When it ends, if it does.
    pub ends: Option<Timestamp>,
    /// How many machines it is for.
    pub total: u32,
    /// How many of them are not in use.
    pub free: u32,
    /// Its tags; EC2 shows those of other accounts' reservations to their owners only.
    pub tags: BTreeMap<String, String>,
}

/// What the terms of a class select.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selected {
    /// In order of id.
    pub items: Vec<Described>,
    /// The terms that select none, for people.
    pub nothing: Vec<String>,
    /// Why none could be read.
    pub unread: Option<Unresolved>,
}

impl Selected {
    /// None, as they cannot be read: a class makes other machines all the same.
    pub fn unread(reason: &'static str, message: String) -> Self {
        Self {
            unread: Some(Unresolved { reason, message }),
            ..Self::default()
        }
    }
}

/// Runs the terms of a class over all active reservations.
pub fn select(terms: &[CapacityReservationSelectorTerm], all: Vec<Described>) -> Selected {
    let is_idle = |(_index, term): &(usize, &CapacityReservationSelectorTerm)| {
        !all.iter().any(|described| selects(term, described))
    };
    let nothing = terms
        .iter()
        .enumerate()
        .filter(is_idle)
        .map(named)
        .collect();
    let selected = |described: &Described| terms.iter().any(|term| selects(term, described));
    let mut items: Vec<Described> = all.into_iter().filter(selected).collect();
    items.sort_by(|one, other| one.id.cmp(&other.id));
    items.dedup_by(|one, other| one.id == other.id);
    Selected {
        items,
        nothing,
        unread: None,
    }
}

fn selects(term: &CapacityReservationSelectorTerm, described: &Described) -> bool {
    let is = |wanted: Option<&str>, value: &str| wanted.is_none_or(|wanted| wanted == value);
    let matching = term.instance_match_criteria.as_ref();
    is(term.id.as_deref(), &described.id)
        && is(term.owner_id.as_deref(), &described.owner)
        && is(
            matching.map(InstanceMatchCriteria::as_str),
            &described.matching,
        )
        && term.tags.iter().all(|(key, value)| {
            let found = described.tags.get(key);
            found.is_some_and(|found| value == "*" || value == found)
        })
}

fn named((index, term): (usize, &CapacityReservationSelectorTerm)) -> String {
    let id = term.id.as_ref().map(|id| format!("id {id}"));
    let owner = term.owner_id.as_ref().map(|owner| format!("owner {owner}"));
    let matching = term
        .instance_match_criteria
        .as_ref()
        .map(|criteria| format!("instanceMatchCriteria {}", criteria.as_str()));
    let looks_for = [id, owner, matching].into_iter().flatten();
    describe(index, looks_for, &term.tags)
}

/// What is to be said of terms that select no active reservation.
pub fn remark(selected: &Selected) -> Option<Unresolved> {
    let unread = selected.unread.clone();
    unread.or_else(|| terms::remark("active capacity reservation", PATH, &selected.nothing))
}

/// The types of the selected reservations.
pub fn types(selected: &Selected) -> BTreeSet<String> {
    let items = selected.items.iter();
    items
        .map(|described| described.instance_type.clone())
        .collect()
}

/// The selected reservations, with what a machine in each costs beside the reservation itself: what any
/// machine there costs beside its price. One that the class cannot launch machines for, by its images, its
/// subnets or what EC2 knows, is not available. Whether EC2 sells the type in any other way does not count.
pub fn priced(
    selected: Selected,
    (catalogue, terms): (&Catalogue, Option<&Terms>),
    counted: Timestamp,
) -> Vec<Reservation> {
    let fees = |described: &Described| {
        let known = catalogue.types.contains_key(&*described.instance_type);
        terms
            .filter(|_terms| known)
            .and_then(|terms| terms.fees_in(&described.zone))
    };
    let items = selected.items.into_iter();
    items
        .map(|described| {
            let fees = fees(&described);
            let key = OfferingKey::new(
                &described.instance_type,
                &described.zone,
                CapacityType::Reserved,
            );
            Reservation {
                id: described.id,
                owner: described.owner,
                matching: described.matching,
                kind: described.kind,
                interruptible: described.interruptible,
                ends: described.ends,
                total: described.total,
                free: described.free,
                counted,
                offering: Offering {
                    key,
                    price: UsdPerHour::ZERO,
                    fees: fees.unwrap_or(UsdPerHour::ZERO),
                    available: fees.is_some(),
                    outlook: Outlook::default(),
                },
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::builtin;
    use crate::cloud::capacity::NodeShape;
    use crate::cloud::class::Family;
    use crate::model::node_class::Accelerator;

    fn reservation(id: &str, tags: &[(&str, &str)]) -> Described {
        Described {
            id: id.to_owned(),
            owner: "123456789012".to_owned(),
            instance_type: "c5.xlarge".to_owned(),
            zone: "us-east-1a".to_owned(),
            matching: "open".to_owned(),
            total: 4,
            free: 3,
            tags: tags
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            ..Described::default()
        }
    }

    fn chosen(terms: serde_json::Value) -> (Vec<String>, Vec<String>) {
        let terms: Vec<CapacityReservationSelectorTerm> = serde_json::from_value(terms).unwrap();
        let all = vec![
            reservation("cr-2", &[("team", "data")]),
            Described {
                owner: "999999999999".to_owned(),
                matching: "targeted".to_owned(),
                ..reservation("cr-3", &[])
            },
            reservation("cr-1", &[("team", "web"), ("tier", "a")]),
        ];
        let selected = select(&terms, all);
        let ids = selected.items.into_iter().map(|found| found.id);
        (ids.collect(), selected.nothing)
    }

    #[test]
    fn within_a_term_everything_must_match_and_of_the_terms_any() {
        for (terms, expected) in [
            (serde_json::json!([{ "id": "cr-2" }]), vec!["cr-2"]),
            (
                serde_json::json!([{ "tags": { "team": "*" } }]),
                vec!["cr-1", "cr-2"],
            ),
            (
                serde_json::json!([{ "tags": { "team": "web", "tier": "a" } }]),
                vec!["cr-1"],
            ),
            (
                serde_json::json!([{ "instanceMatchCriteria": "targeted" }]),
                vec!["cr-3"],
            ),
            (
                serde_json::json!([
                    { "instanceMatchCriteria": "open", "ownerID": "123456789012" },
                    { "id": "cr-3" },
                ]),
                vec!["cr-1", "cr-2", "cr-3"],
            ),
            (serde_json::json!([]), vec![]),
        ] {
            assert_eq!(
                chosen(terms.clone()),
                (expected.iter().map(ToString::to_string).collect(), vec![]),
                "{terms}"
            );
        }
    }

    #[test]
    fn terms_that_select_none_are_named() {
        let terms = serde_json::json!([
            { "id": "cr-2" },
            { "id": "cr-9" },
            { "tags": { "team": "data" }, "ownerID": "999999999999", "instanceMatchCriteria": "open" },
        ]);
        let (ids, nothing) = chosen(terms);
        assert_eq!(ids, ["cr-2"]);
        assert_eq!(
            nothing,
            [
                "[1] (id cr-9)",
                "[2] (owner 999999999999, instanceMatchCriteria open, tag team=data)"
            ]
        );
        let selected = Selected {
            items: Vec::new(),
            nothing,
            ..Selected::default()
        };
        let said = remark(&selected).unwrap();
        assert_eq!(said.reason, "TermMatchesNothing");
        assert!(
            said.message
                .starts_with("no active capacity reservation matches spec.capacityReservationSelectorTerms[1] (id cr-9) or"),
            "{}",
            said.message
        );
        assert_eq!(remark(&Selected::default()), None);
    }

    #[test]
    fn a_machine_in_a_reservation_costs_what_comes_beside_its_price() {
        let terms = Terms {
            family: Family::Al2023,
            shape: NodeShape::default(),
            images: BTreeMap::from([("amd64".to_owned(), Accelerator::all())]),
            zones: BTreeMap::from([("us-east-1a".to_owned(), false)]),
            volume_fee: UsdPerHour::parse("0.01").unwrap(),
            volumes: 1,
            nitro_only: false,
            features: BTreeSet::new(),
            placement_group: None,
            reserved: BTreeSet::new(),
        };
        let catalogue = builtin::catalogue(&terms);
        let elsewhere = Described {
            zone: "us-east-1b".to_owned(),
            ..reservation("cr-2", &[])
        };
        let selected = Selected {
            items: vec![reservation("cr-1", &[]), elsewhere],
            nothing: Vec::new(),
            ..Selected::default()
        };
        let counted = Timestamp::UNIX_EPOCH;
        let found = priced(selected, (&catalogue, Some(&terms)), counted);
        assert_eq!(
            found[0].offering.key.to_string(),
            "c5.xlarge/us-east-1a/reserved"
        );
        assert_eq!(found[0].offering.total_price().to_string(), "0.010");
        assert!(found[0].offering.available);
        assert!(
            !found[1].offering.available,
            "the class has no subnet there"
        );
        assert_eq!(
            (found[0].free, found[0].total, found[0].counted),
            (3, 4, counted)
        );
    }

    #[test]
    fn blocks_expire_forty_minutes_before_their_end_and_others_never() {
        let at = |minute: i64| Timestamp::from_second(minute * 60).unwrap();
        let ending = Described {
            kind: ReservationKind::CapacityBlock,
            ends: Some(at(100)),
            ..reservation("cr-1", &[])
        };
        let standard = Described {
            kind: ReservationKind::Standard,
            ..ending.clone()
        };
        let selected = Selected {
            items: vec![ending, standard],
            nothing: Vec::new(),
            ..Selected::default()
        };
        let found = priced(selected, (&Catalogue::default(), None), at(0));
        let states = |minute: i64| [0, 1].map(|index: usize| found[index].state(at(minute)));
        assert_eq!(states(59), ["active", "active"]);
        assert_eq!(states(60), ["expiring", "active"]);
    }
}
