//! In which orders the classes of a problem are worth trying.
//!
//! Given the reduced problem; given back how large every class is in each dimension, measured by
//! what is asked for on average, which dimensions tell classes apart, and which only few classes
//! ask for at all (GPUs).

use super::random::Random;
use super::real::{real, short};
use super::reduced::Reduced;

/// Ahead of everything that does not ask for a scarce dimension.
const FIRST: f64 = 1000.0;

/// Ahead of everything that shares its machine with anything.
const PICKY: f64 = 1e6;

/// Sizes as multiples of the average.
#[derive(Debug, Clone)]
pub struct Shape<const D: usize> {
    /// By class.
    pub shares: Vec<[f64; D]>,
    /// Dimensions that most classes ask for, in different amounts.
    pub main: Vec<usize>,
    /// Dimensions that fewer than half of the items ask for.
    pub scarce: Vec<usize>,
    /// Classes that cap what shares their machine.
    pub capping: Vec<bool>,
}

impl<const D: usize> Shape<D> {
    /// The shape of a problem.
    pub fn of(reduced: &Reduced<D>) -> Self {
        let mut sums = [0.0; D];
        let mut asking = [0.0; D];
        let mut items = 0.0;
        for class in &reduced.classes {
            let count = f64::from(class.count);
            items += count;
            for ((sum, asking), size) in sums.iter_mut().zip(&mut asking).zip(&class.size) {
                *sum += real(*size) * count;
                if *size > 0 {
                    *asking += count;
                }
            }
        }
        let shares: Vec<[f64; D]> = reduced
            .classes
            .iter()
            .map(|class| {
                std::array::from_fn(|dimension| {
                    if sums[dimension] > 0.0 {
                        real(class.size[dimension]) * items / sums[dimension]
                    } else {
                        0.0
                    }
                })
            })
            .collect();
        let (mut main, mut scarce) = (Vec::new(), Vec::new());
        for (dimension, asking) in asking.into_iter().enumerate() {
            let differs = reduced
                .classes
                .iter()
                .any(|class| class.size[dimension] != reduced.classes[0].size[dimension]);
            if asking * 2.0 < items {
                if asking > 0.0 {
                    scarce.push(dimension);
                }
            } else if differs {
                main.push(dimension);
            }
        }
        if main.is_empty() {
            main.push(0);
        }
        Self {
            shares,
            main,
            scarce,
            capping: reduced
                .classes
                .iter()
                .map(|class| {
                    class
                        .relations
                        .iter()
                        .any(|relation| relation.cap.is_some())
                })
                .collect(),
        }
    }

    fn scarcity(&self, class: usize) -> f64 {
        self.scarce
            .iter()
            .map(|dimension| self.shares[class][*dimension])
            .sum()
    }

    /// Orders for building a fleet from nothing, the most useful ones first.
    pub fn orders(&self, reduced: &Reduced<D>, values: &[f64]) -> Vec<Vec<u32>> {
        let largest: [f64; D] = std::array::from_fn(|dimension| {
            reduced
                .kinds
                .iter()
                .map(|kind| real(kind.capacity[dimension]))
                .fold(1.0, f64::max)
        });
        let mut keys: Vec<Vec<f64>> = Vec::new();
        let mut add = |key: &dyn Fn(usize) -> f64| {
            keys.push(
                (0..reduced.classes.len())
                    .map(|class| {
                        let picky = if self.capping[class] { PICKY } else { 0.0 };
                        key(class) + FIRST * self.scarcity(class) + picky
                    })
                    .collect(),
            );
        };
        add(&|class| {
            let size = &reduced.classes[class].size;
            (0..D)
                .map(|dimension| real(size[dimension]) / largest[dimension])
                .fold(0.0, f64::max)
        });
        let most = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        add(&|class| values[class] / most);
        let first = self.main[0];
        let second = self.main.get(1).copied();
        add(&|class| self.shares[class][first]);
        if let Some(second) = second {
            add(&|class| self.shares[class][second]);
            add(&|class| self.shares[class][first] / self.shares[class][second].max(1e-6) / FIRST);
            add(&|class| self.shares[class][second] / self.shares[class][first].max(1e-6) / FIRST);
        }
        if !self.scarce.is_empty() || self.capping.contains(&true) {
            keys.push(values.to_vec());
        }
        keys.into_iter().map(|key| descending(&key)).collect()
    }

    /// A key by chance: classes with a greater key go first.
    pub fn draw_key(&self, random: &mut Random) -> impl Fn(usize, &mut Random) -> f64 + use<'_, D> {
        let first = self.main[random.below(self.main.len())];
        let second = self.main[random.below(self.main.len())];
        let form = random.below(5);
        let (mut one, mut other) = (random.unit(), random.unit());
        if first == second {
            (one, other) = (1.0, 0.0);
        }
        let noise = if random.below(2) == 0 {
            0.0
        } else {
            random.unit() * 0.5
        };
        let scarce = if random.below(4) == 0 {
            FIRST
        } else {
            random.unit() * 2.0
        };
        move |class, random| {
            let share = &self.shares[class];
            let key = match form {
                0..3 => one * share[first] + other * share[second],
                3 => share[first] / share[second].max(1e-6),
                _ => share[second] / share[first].max(1e-6),
            };
            let noisy = if noise > 0.0 {
                key * (1.0 + noise * random.unit())
            } else {
                key
            };
            noisy + scarce * self.scarcity(class)
        }
    }
}

/// The order by the largest share of the machine that is opened for each class.
pub fn by_share<const D: usize>(reduced: &Reduced<D>, opened: &[usize]) -> Vec<u32> {
    let key: Vec<f64> = reduced
        .classes
        .iter()
        .zip(opened)
        .map(|(class, kind)| {
            class
                .size
                .iter()
                .zip(&reduced.kinds[*kind].capacity)
                .map(|(size, capacity)| real(*size) / real((*capacity).max(1)))
                .fold(0.0, f64::max)
        })
        .collect();
    descending(&key)
}

fn descending(key: &[f64]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..short(key.len())).collect();
    order.sort_by(|left, right| {
        key[*right as usize]
            .total_cmp(&key[*left as usize])
            .then(left.cmp(right))
    });
    order
}
