//! The rows of the linear relaxation: classes, or cells of similar classes where there are many.
//!
//! Given the reduced problem and how many rows there may be; given back rows. What the relaxation
//! finds on cells only guides: the bound is computed for every class by itself afterwards.

use std::collections::BTreeMap;

use super::bits::Bits;
use super::problem::Relation;
use super::real::{real, short, whole};
use super::reduced::{Class, Reduced, fits};

/// Most groups whose caps the relaxation knows; those with most items first.
const MOST_GROUPS: usize = 12;

/// One row.
#[derive(Debug, Clone)]
pub struct Row<const D: usize> {
    /// The average size.
    pub size: [f64; D],
    /// How many items.
    pub demand: f64,
    /// The capped group (an index into [`Rows::caps`]) and the weight of one item there.
    pub capped: Option<(usize, f64)>,
}

/// All rows.
#[derive(Debug, Clone)]
pub struct Rows<const D: usize> {
    /// The rows.
    pub list: Vec<Row<D>>,
    /// For each kind the rows that it takes.
    pub of_kind: Vec<Vec<u32>>,
    /// Cap of each group that the relaxation knows.
    pub caps: Vec<f64>,
    /// The number of each of them among the problem's groups.
    pub groups: BTreeMap<u32, usize>,
    /// The row of each class.
    pub of_class: Vec<u32>,
    /// Every class is a row of its own.
    pub exact: bool,
}

/// What tells two cells apart: where they are, and the kinds that take the largest of them.
type Cell<const D: usize> = ([i64; D], usize, Option<u32>);

impl<const D: usize> Rows<D> {
    /// At most about `most` rows.
    pub fn of(reduced: &Reduced<D>, most: usize) -> Self {
        let (groups, caps) = known_groups(reduced);
        let group_of = |class: &Class<D>| {
            class
                .capped
                .filter(|relation| groups.contains_key(&relation.group))
        };
        let mut rows = Self {
            list: Vec::new(),
            of_kind: vec![Vec::new(); reduced.kinds.len()],
            caps,
            groups: groups.clone(),
            of_class: vec![0; reduced.classes.len()],
            exact: reduced.classes.len() <= most,
        };
        let cells = if rows.exact {
            (0..short(reduced.classes.len()))
                .map(|class| vec![class])
                .collect()
        } else {
            cells(reduced, most, &group_of)
        };
        for classes in cells {
            rows.add(reduced, &classes, &group_of);
        }
        rows
    }

    /// The same rows, where every class without a capped group becomes a group of its own, capped by
    /// how many of it there are: no machine holds more of it.
    pub fn counted(&self) -> Self {
        let mut counted = self.clone();
        for row in &mut counted.list {
            if row.capped.is_none() {
                row.capped = Some((counted.caps.len(), 1.0));
                counted.caps.push(row.demand);
            }
        }
        counted
    }

    fn add(
        &mut self,
        reduced: &Reduced<D>,
        classes: &[u32],
        group_of: &dyn Fn(&Class<D>) -> Option<Relation>,
    ) {
        let Some(first) = classes
            .first()
            .map(|class| &reduced.classes[*class as usize])
        else {
            return;
        };
        let mut size = [0.0; D];
        let mut corner = [0; D];
        let mut demand = 0.0;
        for class in classes {
            let class = &reduced.classes[*class as usize];
            let count = f64::from(class.count);
            demand += count;
            for dimension in 0..D {
                size[dimension] += real(class.size[dimension]) * count;
                corner[dimension] = corner[dimension].max(class.size[dimension]);
            }
        }
        for size in &mut size {
            *size /= demand.max(1.0);
        }
        let takes = |corner: &[i64; D]| -> Vec<usize> {
            (0..reduced.kinds.len())
                .filter(|kind| {
                    fits(corner, &reduced.kinds[*kind].capacity) && reduced.takes_kind(first, *kind)
                })
                .collect()
        };
        let mut kinds = takes(&corner);
        if kinds.is_empty() {
            kinds = takes(&first.size);
        }
        let row = short(self.list.len());
        for class in classes {
            self.of_class[*class as usize] = row;
        }
        for kind in kinds {
            self.of_kind[kind].push(row);
        }
        self.list.push(Row {
            size,
            demand,
            capped: group_of(first).and_then(|relation| {
                let group = *self.groups.get(&relation.group)?;
                Some((group, f64::from(relation.weight)))
            }),
        });
    }
}

/// The groups with most capped items, with the greatest cap that an item of theirs sets.
fn known_groups<const D: usize>(reduced: &Reduced<D>) -> (BTreeMap<u32, usize>, Vec<f64>) {
    let mut found: BTreeMap<u32, (u64, u32)> = BTreeMap::new();
    for class in &reduced.classes {
        if let Some(relation) = class.capped {
            let entry = found.entry(relation.group).or_default();
            entry.0 += u64::from(class.count);
            entry.1 = entry.1.max(relation.cap.unwrap_or(0));
        }
    }
    let mut found: Vec<(u32, (u64, u32))> = found.into_iter().collect();
    found.sort_by_key(|(group, (count, _cap))| (std::cmp::Reverse(*count), *group));
    found.truncate(MOST_GROUPS);
    let caps = found
        .iter()
        .map(|(_group, (_count, cap))| f64::from(*cap))
        .collect();
    let groups = found
        .into_iter()
        .enumerate()
        .map(|(index, (group, _))| (group, index))
        .collect();
    (groups, caps)
}

fn cells<const D: usize>(
    reduced: &Reduced<D>,
    most: usize,
    group_of: &dyn Fn(&Class<D>) -> Option<Relation>,
) -> Vec<Vec<u32>> {
    let logarithms: Vec<[f64; D]> = reduced
        .classes
        .iter()
        .map(|class| class.size.map(|size| real(size.saturating_add(1)).log2()))
        .collect();
    let mut found = Vec::new();
    for steps in [16.0, 8.0, 4.0, 2.0, 1.0, 0.5, 0.25] {
        let mut cells: BTreeMap<Cell<D>, Vec<u32>> = BTreeMap::new();
        for (index, class) in reduced.classes.iter().enumerate() {
            let place = logarithms[index].map(|logarithm| whole(logarithm * steps));
            let group = group_of(class).map(|relation| relation.group);
            cells
                .entry((place, class.allowed, group))
                .or_default()
                .push(short(index));
        }
        found = merge(reduced, cells, group_of);
        if found.len() <= most {
            break;
        }
    }
    found
}

/// Joins cells of one place that differ only in kinds too small for the largest of them.
fn merge<const D: usize>(
    reduced: &Reduced<D>,
    cells: BTreeMap<Cell<D>, Vec<u32>>,
    group_of: &dyn Fn(&Class<D>) -> Option<Relation>,
) -> Vec<Vec<u32>> {
    if reduced.open {
        return cells.into_values().collect();
    }
    let mut corners: BTreeMap<[i64; D], [i64; D]> = BTreeMap::new();
    for ((place, _, _), classes) in &cells {
        let corner = corners.entry(*place).or_insert([0; D]);
        for class in classes {
            for (corner, size) in corner
                .iter_mut()
                .zip(&reduced.classes[*class as usize].size)
            {
                *corner = (*corner).max(*size);
            }
        }
    }
    let large: BTreeMap<[i64; D], Bits> = corners
        .into_iter()
        .map(|(place, corner)| {
            let bits = Bits::of(reduced.kinds.len(), |kind| {
                fits(&corner, &reduced.kinds[kind].capacity)
            });
            (place, bits)
        })
        .collect();
    let mut merged: BTreeMap<([i64; D], Bits, Option<u32>), Vec<u32>> = BTreeMap::new();
    for ((place, allowed, _group), classes) in cells {
        let mut bits = reduced.allowed[allowed].clone();
        if let Some(large) = large.get(&place) {
            bits.retain(large);
        }
        let group = classes
            .first()
            .and_then(|class| group_of(&reduced.classes[*class as usize]))
            .map(|relation| relation.group);
        merged
            .entry((place, bits, group))
            .or_default()
            .extend(classes);
    }
    merged.into_values().collect()
}
