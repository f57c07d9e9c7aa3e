//! The restricted master of the linear relaxation: revised simplex over patterns.
//!
//! Given rows with demands and columns with prices; given back how often each column is bought and
//! what one more item of each row would cost (the duals). Rows are "at least so many". The inverse
//! of the basis is dense: there are at most a few hundred rows.

/// Reduced costs nearer to zero than this are zero.
const TINY: f64 = 1e-9;

/// A pattern: a kind of machine and how many items of each row are on it.
#[derive(Debug, Clone)]
pub struct Column {
    /// The kind.
    pub kind: usize,
    /// Its price.
    pub price: f64,
    /// Row and amount.
    pub entries: Vec<(u32, f64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Basic {
    Column(usize),
    Surplus(usize),
}

/// The restricted master problem with its current basis.
#[derive(Debug, Clone)]
pub struct Master {
    columns: Vec<Column>,
    basis: Vec<Basic>,
    /// Rows of the basis' inverse, one after another.
    inverse: Vec<f64>,
    amounts: Vec<f64>,
    duals: Vec<f64>,
    size: usize,
    pivots: usize,
}

impl Master {
    /// Starts from one column for each row that holds nothing else. A row with a negative demand
    /// says "at most so many", with amounts that are negative too; nothing is bought for it.
    pub fn of(demands: &[f64], singles: Vec<Column>) -> Self {
        let size = demands.len();
        let mut master = Self {
            basis: (0..size).map(Basic::Column).collect(),
            inverse: vec![0.0; size * size],
            amounts: vec![0.0; size],
            duals: vec![0.0; size],
            columns: singles,
            size,
            pivots: 0,
        };
        for (row, demand) in demands.iter().enumerate() {
            if *demand < 0.0 {
                master.basis[row] = Basic::Surplus(row);
                master.inverse[row * size + row] = -1.0;
                master.amounts[row] = -demand;
                continue;
            }
            let single = &master.columns[row];
            let amount = single.entries.first().map_or(1.0, |(_row, amount)| *amount);
            master.inverse[row * size + row] = 1.0 / amount;
            master.amounts[row] = demand / amount;
            master.duals[row] = single.price / amount;
        }
        master
    }

    /// What one more item of each row would cost.
    pub fn duals(&self) -> &[f64] {
        &self.duals
    }

    /// Price of what the master buys.
    pub fn price(&self) -> f64 {
        self.basis
            .iter()
            .zip(&self.amounts)
            .map(|(basic, amount)| self.cost(*basic) * amount)
            .sum()
    }

    /// The columns bought, with how often.
    pub fn bought(&self) -> impl Iterator<Item = (&Column, f64)> {
        self.basis
            .iter()
            .zip(&self.amounts)
            .filter_map(|(basic, amount)| match basic {
                Basic::Column(index) if *amount > TINY => Some((&self.columns[*index], *amount)),
                _ => None,
            })
    }

    /// Work of one pivot.
    pub const fn pivot_units(&self) -> u64 {
        (self.size * self.size / 8 + self.size) as u64
    }

    fn cost(&self, basic: Basic) -> f64 {
        match basic {
            Basic::Column(index) => self.columns[index].price,
            Basic::Surplus(_) => 0.0,
        }
    }

    /// Takes a column in if it makes the fleet cheaper; true when it did.
    pub fn enter(&mut self, column: Column) -> bool {
        let value: f64 = column
            .entries
            .iter()
            .map(|(row, amount)| self.duals[*row as usize] * amount)
            .sum();
        let reduced = column.price - value;
        if reduced > -TINY * column.price.max(TINY) {
            return false;
        }
        let index = self.columns.len();
        let entries = column.entries.clone();
        self.columns.push(column);
        self.pivot(Basic::Column(index), &entries, reduced)
    }

    /// Brings in the surplus of rows whose duals are negative; gives back how many pivots it took.
    pub fn settle(&mut self) -> u64 {
        let mut pivots = 0;
        let scale = self.duals.iter().copied().fold(0.0, f64::max);
        for _try in 0..self.size {
            let worst = (0..self.size).min_by(|a, b| self.duals[*a].total_cmp(&self.duals[*b]));
            let Some(row) = worst.filter(|row| self.duals[*row] < -TINY * scale) else {
                break;
            };
            let dual = self.duals[row];
            pivots += 1;
            if !self.pivot(
                Basic::Surplus(row),
                &[(u32::try_from(row).unwrap_or(0), -1.0)],
                dual,
            ) {
                break;
            }
        }
        pivots
    }

    fn pivot(&mut self, entering: Basic, entries: &[(u32, f64)], reduced: f64) -> bool {
        let size = self.size;
        let direction: Vec<f64> = (0..size)
            .map(|row| {
                entries
                    .iter()
                    .map(|(column, amount)| self.inverse[row * size + *column as usize] * amount)
                    .sum()
            })
            .collect();
        let mut leaving: Option<(f64, usize)> = None;
        for (row, step) in direction.iter().enumerate() {
            if *step > TINY {
                let ratio = self.amounts[row].max(0.0) / step;
                let better = leaving.is_none_or(|(least, known)| {
                    ratio < least - TINY || (ratio < least + TINY && *step > direction[known])
                });
                if better {
                    leaving = Some((ratio, row));
                }
            }
        }
        let Some((ratio, out)) = leaving else {
            return false;
        };
        let step = direction[out];
        let old: Vec<f64> = self.inverse[out * size..(out + 1) * size].to_vec();
        for (dual, entry) in self.duals.iter_mut().zip(&old) {
            *dual += reduced / step * entry;
        }
        for (row, factor) in direction.iter().enumerate() {
            if row == out || *factor == 0.0 {
                continue;
            }
            self.amounts[row] -= factor * ratio;
            let factor = factor / step;
            for (slot, entry) in self.inverse[row * size..(row + 1) * size]
                .iter_mut()
                .zip(&old)
            {
                *slot -= factor * entry;
            }
        }
        for (slot, entry) in self.inverse[out * size..(out + 1) * size]
            .iter_mut()
            .zip(&old)
        {
            *slot = entry / step;
        }
        self.amounts[out] = ratio;
        self.basis[out] = entering;
        self.pivots += 1;
        if self.pivots.is_multiple_of(64) {
            self.renew_duals();
        }
        true
    }

    /// Computes the duals anew, so that errors of many pivots do not add up.
    fn renew_duals(&mut self) {
        let mut duals = vec![0.0; self.size];
        for (row, basic) in self.basis.iter().enumerate() {
            let cost = self.cost(*basic);
            if cost > 0.0 {
                let inverse = &self.inverse[row * self.size..(row + 1) * self.size];
                for (dual, entry) in duals.iter_mut().zip(inverse) {
                    *dual += cost * entry;
                }
            }
        }
        self.duals = duals;
    }
}
