//! What a node costs beside its instance: EBS volumes and a public IPv4 address.
//!
//! Given: the volumes of a node class. Given back: a rate. List prices of us-east-1 (published by
//! AWS on its EBS and VPC pricing pages, read 2026-07-20) serve for every region: they differ by a
//! tenth or two elsewhere, and are a small part of a node's price.

use crate::model::money::{UNITS_PER_USD, UsdPerHour};

/// A public IPv4 address in use: 0.005 USD per hour.
pub const PUBLIC_ADDRESS: UsdPerHour = UsdPerHour::from_units(UNITS_PER_USD / 200);

/// Hours of the month that AWS divides monthly prices by.
const HOURS_PER_MONTH: i64 = 730;

/// Kinds of EBS volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VolumeType {
    /// General purpose, third generation: the default.
    Gp3,
    /// General purpose, second generation.
    Gp2,
    /// Provisioned IOPS.
    Io1,
    /// Provisioned IOPS, durable.
    Io2,
    /// Throughput optimized HDD.
    St1,
    /// Cold HDD.
    Sc1,
    /// Magnetic.
    Standard,
}

impl VolumeType {
    const ALL: [Self; 7] = [
        Self::Gp3,
        Self::Gp2,
        Self::Io1,
        Self::Io2,
        Self::St1,
        Self::Sc1,
        Self::Standard,
    ];

    /// EC2's spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gp3 => "gp3",
            Self::Gp2 => "gp2",
            Self::Io1 => "io1",
            Self::Io2 => "io2",
            Self::St1 => "st1",
            Self::Sc1 => "sc1",
            Self::Standard => "standard",
        }
    }

    /// Reads EC2's spelling.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Tenths of a cent per GiB and month.
    const fn size_price(self) -> i64 {
        match self {
            Self::Gp3 => 80,
            Self::Gp2 => 100,
            Self::Io1 | Self::Io2 => 125,
            Self::St1 => 45,
            Self::Sc1 => 15,
            Self::Standard => 50,
        }
    }
}

/// An EBS volume as far as its price goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumePlan {
    /// Kind.
    pub kind: VolumeType,
    /// Size, GiB.
    pub gib: i64,
    /// IOPS that are asked for.
    pub iops: Option<i64>,
    /// Throughput that is asked for, MiB/s.
    pub throughput: Option<i64>,
}

/// The rate of one volume. gp3 includes 3000 IOPS and 125 MiB/s; io1 and io2 pay for each IOPS.
pub fn volume(plan: &VolumePlan) -> UsdPerHour {
    let size = plan.gib.max(0).saturating_mul(plan.kind.size_price());
    let iops = plan.iops.unwrap_or(0).max(0);
    let performance = match plan.kind {
        VolumeType::Gp3 => {
            let throughput = plan.throughput.unwrap_or(0).max(0);
            (iops - 3000).max(0).saturating_mul(5) + (throughput - 125).max(0).saturating_mul(40)
        }
        VolumeType::Io1 | VolumeType::Io2 => iops.saturating_mul(65),
        VolumeType::Gp2 | VolumeType::St1 | VolumeType::Sc1 | VolumeType::Standard => 0,
    };
    per_month(size.saturating_add(performance))
}

/// A rate from tenths of a cent per month, rounded to the nearest unit.
fn per_month(thousandths: i64) -> UsdPerHour {
    let units = i128::from(thousandths) * i128::from(UNITS_PER_USD / 1000);
    let hours = i128::from(HOURS_PER_MONTH);
    UsdPerHour::from_units(i64::try_from((units + hours / 2) / hours).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gp3(gib: i64, iops: Option<i64>, throughput: Option<i64>) -> String {
        volume(&VolumePlan {
            kind: VolumeType::Gp3,
            gib,
            iops,
            throughput,
        })
        .to_string()
    }

    #[test]
    fn a_hundred_gib_of_gp3_is_eight_dollars_a_month() {
        assert_eq!(gp3(100, None, None), "0.0109589041");
        assert_eq!(gp3(100, Some(3000), Some(125)), "0.0109589041");
        // 8 + 5 + 5 dollars a month.
        assert_eq!(gp3(100, Some(4000), Some(250)), "0.0246575342");
    }

    #[test]
    fn an_address_is_half_a_cent() {
        assert_eq!(PUBLIC_ADDRESS.to_string(), "0.005");
    }
}
