//! Problems of very many classes: what a solve takes beyond its budget stays small.

use super::*;

/// So many items of which no two have the same size, and three machines.
fn distinct(count: i64) -> Problem {
    let machine = |capacity: i64| Machine {
        price: capacity * UNITS_PER_USD / 1000,
        capacity: vec![capacity, capacity],
    };
    Problem {
        dimensions: 2,
        items: (0..count)
            .map(|index| Item {
                size: vec![10 + index, 20 + index % 97],
                count: 1,
                allowed: Bits::of(3, |_machine| true),
                relations: Vec::new(),
            })
            .collect(),
        machines: [2_000, 8_000, 16_000].map(machine).into(),
    }
}

/// A first fleet and a bound are made whatever the budget is. What they take grows with the classes, and not
/// with pairs of them, which would be a hundred times as much here.
#[test]
fn ten_times_the_classes_take_about_ten_times_the_least_work() {
    let least = |count: i64| {
        let problem = distinct(count);
        let solution = solve(&problem, Budget { units: 1 });
        let left: u32 = solution.packing.left.iter().sum();
        assert_eq!(left, 0);
        solution.units
    };
    let (few, many) = (least(1_000), least(10_000));
    assert!(many < few * 20, "{few} units for 1000, {many} for 10 000");
}
