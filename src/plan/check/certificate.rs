//! Certificates of lower bounds, verified in integers.
//!
//! A certificate gives every class of equal items a price, and every machine a price for each of
//! its dimensions. If no machine can be filled for more than it costs, and no item is worth more on
//! a machine than what it takes of it costs, then no fleet for the items costs less than the items
//! are worth. Nothing needs to be trusted: the sums below are the whole proof.

/// One class of equal items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertifiedClass {
    /// What one takes by dimension.
    pub size: Vec<i64>,
    /// How many there are.
    pub count: u64,
    /// What one is worth, in money units times [`SCALE`].
    pub price: i128,
    /// Machines that it may be on.
    pub allowed: Vec<usize>,
}

/// One kind of machine, any number of which may be bought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertifiedMachine {
    /// What one costs in money units.
    pub price: i64,
    /// What it holds by dimension.
    pub capacity: Vec<i64>,
    /// What a unit of each dimension costs, in money units times [`SCALE`].
    pub prices: Vec<i128>,
}

/// Prices of classes and of units are integers of so many parts of a money unit.
pub const SCALE: i128 = 1 << 40;

/// The bound that the prices prove, in money units rounded down, or what is wrong with the proof.
///
/// # Errors
/// The first inequality that does not hold, in words.
pub fn verify(classes: &[CertifiedClass], machines: &[CertifiedMachine]) -> Result<i64, String> {
    for (index, machine) in machines.iter().enumerate() {
        let mut filled: i128 = 0;
        for (capacity, price) in machine.capacity.iter().zip(&machine.prices) {
            if *price < 0 {
                return Err(format!("machine {index} has a negative price"));
            }
            filled = price
                .checked_mul(i128::from(*capacity).max(0))
                .and_then(|part| filled.checked_add(part))
                .ok_or_else(|| format!("machine {index} overflows"))?;
        }
        if filled > i128::from(machine.price) * SCALE {
            return Err(format!("machine {index} would be worth more than it costs"));
        }
    }
    let mut total: i128 = 0;
    for (index, class) in classes.iter().enumerate() {
        for machine_index in &class.allowed {
            let machine = machines
                .get(*machine_index)
                .ok_or_else(|| format!("class {index} names machine {machine_index}"))?;
            let fits = class
                .size
                .iter()
                .zip(&machine.capacity)
                .all(|(size, capacity)| *size <= 0 || size <= capacity);
            let mut worth: i128 = 0;
            for (size, price) in class.size.iter().zip(&machine.prices) {
                worth = price
                    .checked_mul(i128::from(*size).max(0))
                    .and_then(|part| worth.checked_add(part))
                    .ok_or_else(|| format!("class {index} overflows"))?;
            }
            if fits && class.price > worth {
                return Err(format!(
                    "class {index} is worth more than what it takes of machine {machine_index}"
                ));
            }
        }
        total = i128::from(class.count)
            .checked_mul(class.price)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(|| "the sum overflows".to_owned())?;
    }
    i64::try_from(total.div_euclid(SCALE)).map_err(|_overflow| "the bound overflows".to_owned())
}
