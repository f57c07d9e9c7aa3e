//! Random problems: every packing and every bound passes the independent check, and small ones are
//! held against the best packing that there is.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

mod cases;
mod joint;
mod many;
mod proof;

use super::problem::{Loads, take, times_into};
use super::*;
use crate::model::money::UNITS_PER_USD;

/// Enough for a search in problems of a handful of items, and quick without optimisation.
const BUDGET: Budget = Budget { units: 60_000 };

prop_compose! {
    fn machine(dimensions: usize)(
        cents in 1..60_i64,
        capacity in prop::collection::vec(0..24_i64, dimensions),
    ) -> Machine {
        Machine { price: cents * UNITS_PER_USD / 100, capacity }
    }
}

prop_compose! {
    fn relation()(group in 0..2_u32, weight in 0..2_u32, cap in prop::option::of(0..3_u32)) -> Relation {
        Relation { group, weight, cap }
    }
}

prop_compose! {
    fn item(dimensions: usize, machines: usize, most: u32)(
        size in prop::collection::vec(0..9_i64, dimensions),
        count in 1..=most,
        everywhere in any::<bool>(),
        allowed in prop::collection::vec(any::<bool>(), machines),
        relations in prop::option::weighted(0.3, relation()),
    ) -> Item {
        Item {
            size,
            count,
            allowed: Bits::of(machines, |index| everywhere || allowed[index]),
            relations: relations.into_iter().collect(),
        }
    }
}

fn problem(kinds: usize, most: u32) -> impl Strategy<Value = Problem> {
    (1..7_usize, 1..6_usize).prop_flat_map(move |(dimensions, machines)| {
        (
            prop::collection::vec(machine(dimensions), machines),
            prop::collection::vec(item(dimensions, machines, most), 1..=kinds),
        )
            .prop_map(move |(machines, items)| Problem {
                dimensions,
                items,
                machines,
            })
    })
}

/// The least price of all packings, by trying every way to divide the items between machines.
fn least_price(problem: &Problem) -> i64 {
    let single: Vec<usize> = problem
        .items
        .iter()
        .enumerate()
        .filter(|(index, _)| cheapest(problem, &[*index]).is_some())
        .flat_map(|(index, item)| std::iter::repeat_n(index, item.count as usize))
        .collect();
    let all = (1_usize << single.len()) - 1;
    let part = |set: usize| -> Vec<usize> {
        (0..single.len())
            .filter(|bit| set & (1 << bit) != 0)
            .map(|bit| single[bit])
            .collect()
    };
    let alone: Vec<Option<i64>> = (0..=all).map(|set| cheapest(problem, &part(set))).collect();
    let mut least = vec![i64::MAX; all + 1];
    least[0] = 0;
    for set in 1..=all {
        let mut own = set;
        while own > 0 {
            if let Some(price) = alone[own] {
                least[set] = least[set].min(least[set & !own].saturating_add(price));
            }
            own = (own - 1) & set;
        }
    }
    least[all]
}

/// The cheapest machine that holds all of these at once.
fn cheapest(problem: &Problem, items: &[usize]) -> Option<i64> {
    problem
        .machines
        .iter()
        .enumerate()
        .filter(|(index, machine)| {
            let mut free = machine.capacity.clone();
            let mut loads = Loads::default();
            items.iter().all(|item| {
                let item = &problem.items[*item];
                let fits = item.allowed.contains(*index)
                    && times_into(&item.size, &free, 1) == 1
                    && loads.room(&item.relations) >= 1;
                take(&mut free, &item.size, 1);
                loads.add(&item.relations, 1);
                fits
            })
        })
        .map(|(_index, machine)| machine.price)
        .min()
}

fn check(problem: &Problem, solution: &Solution) {
    assert_eq!(
        verify_packing(problem, &solution.packing),
        Ok(solution.price)
    );
    assert_eq!(
        verify_certificate(problem, &solution.certificate),
        Ok(solution.lower_bound)
    );
    assert!(solution.lower_bound <= solution.price);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(8),
        ..ProptestConfig::default()
    })]

    #[test]
    fn packings_and_bounds_pass_the_independent_check(problem in problem(12, 30)) {
        let solution = solve(&problem, BUDGET);
        check(&problem, &solution);
        prop_assert_eq!(&solution, &solve(&problem, BUDGET));
        let proven = bound_guarded(&problem, Budget { units: 0 }, &|| false);
        prop_assert_eq!(verify_certificate(&problem, &proven.certificate), Ok(proven.bound));
        prop_assert!(proven.bound <= solution.price);
    }

    #[test]
    fn small_problems_are_solved_to_the_optimum(problem in problem(4, 2)) {
        let solution = solve(&problem, BUDGET);
        check(&problem, &solution);
        let least = least_price(&problem);
        prop_assert!(solution.lower_bound <= least);
        prop_assert_eq!(solution.price, least);
    }
}

/// Pods that keep apart need a machine each: the bound knows it.
#[test]
fn the_bound_counts_a_machine_for_each_item_of_a_capped_group() {
    let apart = Relation {
        group: 7,
        weight: 1,
        cap: Some(1),
    };
    let problem = Problem {
        dimensions: 1,
        items: vec![Item {
            size: vec![1],
            count: 10,
            allowed: Bits::full(2),
            relations: vec![apart],
        }],
        machines: vec![
            Machine {
                price: 3 * UNITS_PER_USD,
                capacity: vec![4],
            },
            Machine {
                price: 5 * UNITS_PER_USD,
                capacity: vec![100],
            },
        ],
    };
    let solution = solve(&problem, Budget { units: 0 });
    check(&problem, &solution);
    assert_eq!(solution.price, 30 * UNITS_PER_USD);
    assert!(solution.lower_bound > 30 * UNITS_PER_USD - 1000);
}

/// More dimensions than the solver works with are packed plainly, with a bound all the same.
#[test]
fn many_dimensions_are_packed_and_bounded() {
    let dimensions = WIDEST + 3;
    let problem = Problem {
        dimensions,
        items: vec![Item {
            size: vec![2; dimensions],
            count: 9,
            allowed: Bits::full(1),
            relations: Vec::new(),
        }],
        machines: vec![Machine {
            price: UNITS_PER_USD,
            capacity: vec![6; dimensions],
        }],
    };
    let solution = solve(&problem, BUDGET);
    check(&problem, &solution);
    assert_eq!(solution.price, 3 * UNITS_PER_USD);
    assert!(solution.lower_bound > 3 * UNITS_PER_USD - 1_000);
}

/// With more classes than the relaxation has rows, large budgets prove more than its cells can.
#[test]
fn the_bound_of_many_classes_is_climbed_for_each_by_itself() {
    let all = Bits::full(4);
    let items = (0..300_i64).map(|number| Item {
        size: vec![1 + number * 37 % 97, 1 + number * 53 % 389],
        count: 1,
        allowed: all.clone(),
        relations: Vec::new(),
    });
    let machine = |cents: i64, cpu: i64, memory: i64| Machine {
        price: cents * UNITS_PER_USD / 100,
        capacity: vec![cpu, memory],
    };
    let problem = Problem {
        dimensions: 2,
        items: items.collect(),
        machines: vec![
            // What is large costs more for its size.
            machine(10, 60, 200),
            machine(30, 100, 280),
            machine(45, 80, 400),
            machine(70, 200, 400),
        ],
    };
    let bound = |units| {
        let proven = bound_guarded(&problem, Budget { units }, &|| false);
        assert_eq!(
            verify_certificate(&problem, &proven.certificate),
            Ok(proven.bound)
        );
        proven.bound
    };
    // The last budget that is not large, and the first that is.
    let (cells, climbed) = (bound(39_999_999), bound(40_000_000));
    assert!(climbed > cells + cells / 2_000, "{cells} {climbed}");
}
