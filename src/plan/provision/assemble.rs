//! From machines with contents to planned nodes with names of pods and alternatives.
//!
//! Given what is bought; given back the nodes of the plan, each with every other offering that would
//! hold the same pods, in price order, and that its pool's limits leave room for. A node that cannot keep its
//! pool's minValues is given back instead of planned.

use std::collections::BTreeMap;

use super::ProvisionSettings;
use super::buy::Bought;
use super::class::{Class, fits};
use super::item::Item;
use super::limits::{self, Rooms};
use super::min_values;
use super::mix::Mix;
use super::pods::Pods;
use super::promise;
use super::supply::{Candidate, Slot, Supply};
use crate::model::money::UsdPerHour;
use crate::model::node_pool::NodePool;
use crate::model::offering::{CapacityType, MOST_OFFERINGS, OfferingKey};
use crate::model::report::PlannedNode;
use crate::model::resources::Resources;

/// Everything that planned nodes are made from.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'round> {
    /// The classes.
    pub classes: &'round [Class],
    /// The items.
    pub items: &'round [Item],
    /// What could be bought.
    pub supply: &'round Supply,
    /// What each candidate offers, by dimension.
    pub capacities: &'round [Vec<i64>],
    /// Names of the dimensions.
    pub dimensions: &'round [String],
    /// Settings of the round.
    pub settings: &'round ProvisionSettings,
    /// All candidates, cheapest first: see [`by_price`].
    pub by_price: &'round [usize],
}

/// The candidates in the order of what they are compared by, equals in the order of their keys.
pub fn by_price(supply: &Supply) -> Vec<usize> {
    let mut order: Vec<(UsdPerHour, &OfferingKey, usize)> = supply
        .candidates
        .iter()
        .enumerate()
        .map(|(index, candidate)| (candidate.weighed(), &candidate.offering.key, index))
        .collect();
    order.sort_unstable();
    order.into_iter().map(|(_, _, index)| index).collect()
}

impl Parts<'_> {
    /// Plans one node, or `None` when its pool's minValues cannot be kept. Where its pool's mix leaves no
    /// room for spot, it is an on-demand node for the same pods; if there is none that they allow, it
    /// stays as it is. Of `rooms`, which count it already, it takes what its largest alternative has more.
    pub fn planned(
        &self,
        node: &Bought,
        mix: &mut Mix,
        rooms: &mut Rooms,
        pods: &mut Pods<'_>,
    ) -> Option<PlannedNode> {
        let firm = self.on_demand_twin(node, rooms, mix).and_then(|twin| {
            let mut own = rooms.clone();
            own.charge_instead(self.supply, node.candidate, &[twin.candidate]);
            let planned = self.planned_as(&twin, Some(CapacityType::OnDemand), &mut own, pods)?;
            *rooms = own;
            Some(planned)
        });
        let planned = firm.or_else(|| self.planned_as(node, self.stays(node, mix), rooms, pods))?;
        if let Some(first) = planned.offerings.first() {
            mix.count(&planned.node_pool, first.capacity_type);
        }
        Some(planned)
    }

    /// On-demand, for a node that is chosen so already where there is no room for spot: it must not
    /// become spot when on-demand is refused.
    fn stays(&self, node: &Bought, mix: &Mix) -> Option<CapacityType> {
        let chosen = self.supply.candidates.get(node.candidate)?;
        let pool = &self.supply.variants.get(chosen.variant)?.pool;
        let own = chosen.offering.key.capacity_type;
        (own == CapacityType::OnDemand && !mix.allows_spot(pool)).then_some(own)
    }

    /// The cheapest on-demand machine for the pods of a spot node that may not be spot, within the pool's
    /// limits.
    fn on_demand_twin(&self, node: &Bought, rooms: &Rooms, mix: &Mix) -> Option<Bought> {
        let chosen = self.supply.candidates.get(node.candidate)?;
        let pool = &self.supply.variants.get(chosen.variant)?.pool;
        if chosen.offering.key.capacity_type != CapacityType::Spot || mix.allows_spot(pool) {
            return None;
        }
        let (need, allowed) = (self.need(node), node.allowed(self.items, self.supply));
        let within_limits = within_limits(rooms, pool, chosen);
        let twin = self.by_price.iter().copied().find(|index| {
            let (Some(candidate), Some(free)) = (
                self.supply.candidates.get(*index),
                self.capacities.get(*index),
            ) else {
                return false;
            };
            candidate.variant == chosen.variant
                && candidate.offering.key.capacity_type == CapacityType::OnDemand
                && allowed.contains(*index)
                && fits(&need, free)
                && within_limits(candidate)
        })?;
        Some(Bought {
            candidate: twin,
            ..node.clone()
        })
    }

    /// Plans one node with alternatives of one capacity type, or of all.
    fn planned_as(
        &self,
        node: &Bought,
        only: Option<CapacityType>,
        rooms: &mut Rooms,
        pods: &mut Pods<'_>,
    ) -> Option<PlannedNode> {
        let kept = self.offerings(node, only, rooms)?;
        rooms.charge_instead(self.supply, node.candidate, &kept);
        let key = |index: usize| Some(self.supply.candidates.get(index)?.offering.key.clone());
        let offerings = kept.into_iter().filter_map(key).collect();
        let candidate = self.supply.candidates.get(node.candidate)?;
        let variant = self.supply.variants.get(candidate.variant)?;
        let mut requests = candidate.daemons.clone();
        let mut promised: BTreeMap<u64, u32> = BTreeMap::new();
        let mut names = Vec::new();
        let mut labels = variant.chosen.clone();
        labels.extend(
            candidate
                .slot
                .as_ref()
                .map(Slot::labels)
                .into_iter()
                .flatten(),
        );
        for (index, count) in &node.contents {
            let item = self.items.get(*index)?;
            for (class_index, each) in &item.content {
                let class = self.classes.get(*class_index)?;
                let number = each.saturating_mul(*count);
                requests.add(&times(&class.spec.requests, number));
                *promised.entry(class.hash).or_default() += number;
            }
            for domain in &item.domains {
                if let Some(value) = domain.single() {
                    labels.insert(domain.key.clone(), value.clone());
                }
            }
            names.extend(pods.take(item, *count));
        }
        for place in &node.places {
            if let Some(value) = place.single() {
                labels.insert(place.key.clone(), value.clone());
            }
        }
        names.sort();
        let mut annotations =
            BTreeMap::from([(promise::PROMISE.to_owned(), promise::write(&promised))]);
        annotations.extend(candidate.slot.as_ref().and_then(Slot::end));
        Some(PlannedNode {
            node_pool: variant.pool.name.clone(),
            offerings,
            price: candidate.offering.price,
            fees: candidate.fees,
            risk: candidate.risk,
            requests,
            pods: names,
            labels,
            annotations,
        })
    }

    /// The chosen candidate first, then every other that holds the same pods and that the limits leave room
    /// for, in price order; last those that only minValues asks for.
    fn offerings(
        &self,
        node: &Bought,
        only: Option<CapacityType>,
        rooms: &Rooms,
    ) -> Option<Vec<usize>> {
        let chosen = self.supply.candidates.get(node.candidate)?;
        if chosen.slot.is_some() {
            // The slot is there: nothing else needs to be named for when it is not.
            return Some(vec![node.candidate]);
        }
        let variant = self.supply.variants.get(chosen.variant)?;
        let others = self.others(node, chosen, only, rooms);
        let percent = variant.pool.price_band_percent;
        let percent = percent.or(self.settings.price_band_percent);
        let cap = self.settings.max_alternatives.clamp(1, MOST_OFFERINGS);
        let (mut kept, beyond) = parted((node.candidate, chosen), others, percent, cap);
        let liked = kept.len();
        min_values::complete(self.supply, variant, &mut kept, &beyond).then_some(())?;
        min_values::trim(self.supply, variant, &mut kept, liked, cap);
        Some(kept)
    }

    /// The candidates that could be bought instead of the chosen one, in price order.
    fn others(
        &self,
        node: &Bought,
        chosen: &Candidate,
        only: Option<CapacityType>,
        rooms: &Rooms,
    ) -> Vec<(usize, &Candidate)> {
        let Some(variant) = self.supply.variants.get(chosen.variant) else {
            return Vec::new();
        };
        let need = self.need(node);
        let allowed = node.allowed(self.items, self.supply);
        let within_limits = within_limits(rooms, &variant.pool, chosen);
        self.by_price
            .iter()
            .copied()
            .filter(|index| *index != node.candidate && allowed.contains(*index))
            .filter_map(|index| Some((index, self.supply.candidates.get(index)?)))
            .filter(|(index, candidate)| {
                candidate.variant == chosen.variant
                    && candidate.slot.is_none()
                    && only.is_none_or(|only| candidate.offering.key.capacity_type == only)
                    && self
                        .capacities
                        .get(*index)
                        .is_some_and(|free| fits(&need, free))
                    && within_limits(candidate)
            })
            .collect()
    }

    fn need(&self, node: &Bought) -> Vec<i64> {
        let mut need = vec![0_i64; self.items.first().map_or(0, |item| item.size.len())];
        for (index, count) in &node.contents {
            if let Some(item) = self.items.get(*index) {
                for (need, size) in need.iter_mut().zip(&item.size) {
                    *need = need.saturating_add(size.saturating_mul(i64::from(*count)));
                }
            }
        }
        need
    }
}

/// Parts the alternatives into those that are kept after the chosen one, at most `cap` with it and within the
/// band, and the others.
fn parted(
    (first, chosen): (usize, &Candidate),
    others: Vec<(usize, &Candidate)>,
    band_percent: Option<u32>,
    cap: usize,
) -> (Vec<usize>, Vec<usize>) {
    // The band is drawn for each capacity type from its own cheapest: on-demand costs two to
    // three times as much as spot, and must still be there when spot has run out everywhere.
    let own_type = chosen.offering.key.capacity_type;
    let mut cheapest = BTreeMap::from([(own_type, chosen.price.units())]);
    for (_, candidate) in &others {
        cheapest
            .entry(candidate.offering.key.capacity_type)
            .or_insert_with(|| candidate.price.units());
    }
    let in_band = |candidate: &Candidate| {
        let base = cheapest.get(&candidate.offering.key.capacity_type);
        let (Some(percent), Some(base)) = (band_percent, base) else {
            return true;
        };
        candidate.price.units() <= base.saturating_add(base / 100 * i64::from(percent))
    };
    let of_others = others
        .iter()
        .filter(|(_, found)| found.offering.key.capacity_type != own_type && in_band(found))
        .count();
    let mut room = [cap - of_others.min(cap / 3), of_others.min(cap / 3)];
    room[0] = room[0].saturating_sub(1);
    let mut kept = vec![first];
    let mut beyond = Vec::new();
    for (index, candidate) in others {
        let foreign = usize::from(candidate.offering.key.capacity_type != own_type);
        match room.get_mut(foreign) {
            Some(left) if *left > 0 && in_band(candidate) => {
                *left -= 1;
                kept.push(index);
            }
            _ => beyond.push(index),
        }
    }
    (kept, beyond)
}

/// Whether a pool's limits leave room for a candidate in the place of the chosen one, which is counted already.
fn within_limits<'round>(
    rooms: &'round Rooms,
    pool: &NodePool,
    chosen: &'round Candidate,
) -> impl Fn(&Candidate) -> bool + use<'round> {
    let room = rooms.of_pool(&pool.name);
    let counted = &chosen.instance.capacity;
    move |other| {
        room.is_none_or(|room| limits::leaves_instead(room, counted, &other.instance.capacity))
    }
}

fn times(requests: &Resources, count: u32) -> Resources {
    requests
        .iter()
        .map(|(name, amount)| (name, amount.saturating_mul(i64::from(count))))
        .collect()
}
