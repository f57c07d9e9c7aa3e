//! Bounds by cases: sound and mostly exact on small problems, and refused once they are changed.

use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use super::super::cases::{Cases, DEEPEST, Priced, Split};
use super::*;

/// Enough for a budget to count as large.
const LARGE: Budget = Budget { units: 40_000_000 };
/// Random problems that are held against their best packings.
const CASES: usize = 100;
/// Of them, so many bounds at least are the price of the best packing: 100 were measured.
const LEAST_EXACT: usize = 98;

/// A change to one case or split; false where it has nothing to change.
type Change = Box<dyn Fn(&mut Cases) -> bool>;

/// Ten items of which a machine for 31 cents holds three and one for 70 cents seven. The relaxation
/// buys a broken number of the latter: only cases prove that 101 cents are needed.
fn broken() -> Problem {
    let machine = |cents: i64, capacity: i64| Machine {
        price: cents * UNITS_PER_USD / 100,
        capacity: vec![capacity],
    };
    Problem {
        dimensions: 1,
        items: vec![Item {
            size: vec![3],
            count: 10,
            allowed: Bits::full(3),
            relations: Vec::new(),
        }],
        machines: vec![machine(31, 10), machine(70, 22), machine(11, 3)],
    }
}

/// Calls `change` on a copy for each case and split, and gives back the changed copies.
fn changed(cases: &Cases, change: &dyn Fn(&mut Cases) -> bool) -> Vec<Cases> {
    let mut copies = Vec::new();
    let mut own = cases.clone();
    if change(&mut own) && own != *cases {
        copies.push(own);
    }
    if let Cases::Split(split) = cases {
        for fewer in changed(&split.fewer, change) {
            copies.push(Cases::Split(Box::new(Split {
                fewer,
                ..Split::clone(split)
            })));
        }
        for more in changed(&split.more, change) {
            copies.push(Cases::Split(Box::new(Split {
                more,
                ..Split::clone(split)
            })));
        }
    }
    copies
}

/// What the checker says of a certificate with other cases.
fn verdict(problem: &Problem, certificate: &Certificate, cases: Cases) -> Result<i64, Fault> {
    let changed = Certificate {
        cases: Some(cases),
        ..certificate.clone()
    };
    verify_certificate(problem, &changed)
}

/// Changes that make a proof claim more than it shows.
fn overstated() -> Vec<Change> {
    let of_case = |change: fn(&mut Priced)| {
        Box::new(move |cases: &mut Cases| match cases {
            Cases::Proven(priced) => {
                change(priced);
                true
            }
            Cases::Split(_) => false,
        }) as Change
    };
    let of_split = |change: fn(&mut Split)| {
        Box::new(move |cases: &mut Cases| match cases {
            Cases::Split(split) => {
                change(split);
                true
            }
            Cases::Proven(_) => false,
        }) as Change
    };
    vec![
        of_case(|priced| {
            for price in &mut priced.class_prices {
                *price += *price / 20 + UNITS_PER_USD / 100;
            }
        }),
        of_case(|priced| {
            for charge in &mut priced.charges {
                *charge += UNITS_PER_USD / 10;
            }
        }),
        of_case(|priced| priced.charges.fill(0)),
        of_case(|priced| priced.charges.reverse()),
        of_split(|split| split.most += 3),
        of_split(|split| split.most = 0),
        of_split(|split| std::mem::swap(&mut split.fewer, &mut split.more)),
        of_split(|split| split.machines = Bits::empty(0)),
        of_split(|split| split.machines = Bits::full(64)),
    ]
}

#[test]
fn cases_prove_what_prices_alone_cannot() {
    let problem = broken();
    let solution = solve(&problem, LARGE);
    check(&problem, &solution);
    let cents = UNITS_PER_USD / 100;
    assert_eq!(solution.price, 101 * cents);
    assert_eq!(solution.lower_bound, 101 * cents);
    let by_prices = Certificate {
        cases: None,
        ..solution.certificate.clone()
    };
    assert!(verify_certificate(&problem, &by_prices).unwrap() <= 100 * cents);
    assert!(solution.certificate.cases.is_some());
}

#[test]
fn a_small_budget_is_not_spent_on_cases() {
    assert_eq!(solve(&broken(), BUDGET).certificate.cases, None);
}

#[test]
fn malformed_cases_are_refused() {
    let problem = broken();
    let certificate = solve(&problem, LARGE).certificate;
    let cases = certificate.cases.clone().unwrap();
    let mut deep = cases.clone();
    for _level in 0..=DEEPEST {
        deep = Cases::Split(Box::new(Split {
            machines: Bits::full(3),
            most: 1,
            fewer: deep,
            more: cases.clone(),
        }));
    }
    assert_eq!(verdict(&problem, &certificate, deep), Err(Fault::Malformed));
    let changes: [fn(&mut Priced); 5] = [
        |priced| priced.charges.push(1),
        |priced| priced.class_prices.clear(),
        |priced| priced.class_prices.iter_mut().for_each(|price| *price = -1),
        |priced| priced.offering_prices.clear(),
        |priced| priced.offering_prices.iter_mut().for_each(Vec::clear),
    ];
    for change in changes {
        let copies = changed(&cases, &|cases| match cases {
            Cases::Proven(priced) => {
                change(priced);
                true
            }
            Cases::Split(_) => false,
        });
        assert!(!copies.is_empty());
        for copy in copies {
            assert_eq!(verdict(&problem, &certificate, copy), Err(Fault::Malformed));
        }
    }
}

/// On random small problems no certificate proves more than the best packing costs, as it is or
/// changed, and nearly all prove just that.
#[test]
fn cases_are_sound_and_mostly_exact() {
    let mut runner = TestRunner::new(Config {
        rng_seed: RngSeed::Fixed(5),
        ..Config::default()
    });
    let strategy = problem(4, 2);
    let (mut exact, mut by_cases, mut split, mut refused) = (0, 0, 0, 0);
    for _case in 0..CASES {
        let problem = strategy.new_tree(&mut runner).unwrap().current();
        let least = least_price(&problem);
        let solution = solve(&problem, LARGE);
        check(&problem, &solution);
        assert!(solution.lower_bound <= least, "{problem:?}");
        exact += usize::from(solution.lower_bound >= least - least / 1_000_000 - 100);
        let certificate = &solution.certificate;
        let Some(cases) = &certificate.cases else {
            continue;
        };
        by_cases += 1;
        split += usize::from(matches!(cases, Cases::Split(_)));
        for change in overstated() {
            for copy in changed(cases, &*change) {
                match verdict(&problem, certificate, copy) {
                    Ok(bound) => assert!(bound <= least, "{problem:?}"),
                    Err(_fault) => refused += 1,
                }
            }
        }
    }
    let figures = format!("{exact} exact, {by_cases} by cases, {split} split, {refused} refused");
    assert!(exact >= LEAST_EXACT, "{figures}");
    assert!(by_cases >= 5 && split >= 3 && refused >= 20, "{figures}");
}
