//! Where prices come from, and how fresh they are kept.
//!
//! Given the flags; given back nothing, or an error that names the flag.

use std::time::Duration;

use clap::Args;

use super::{SettingsError, duration, page};

/// Prices are not read more often than this.
const LEAST_REFRESH: Duration = Duration::from_mins(1);

/// Flags of prices.
#[derive(Debug, Clone, Args)]
pub struct PriceFlags {
    /// Ask the Pricing API for on-demand prices; otherwise the built-in, dated table is used
    #[arg(long, env = "TONNAGE_PRICE_API", action = clap::ArgAction::Set, default_value_t = true)]
    pub price_api: bool,
    /// How often prices are read again, spot and on-demand
    #[arg(long, env = "TONNAGE_PRICE_REFRESH", value_parser = duration, default_value = "5m")]
    pub price_refresh: Duration,
}

impl PriceFlags {
    /// Checks what clap cannot check.
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        if self.price_refresh >= LEAST_REFRESH {
            return Ok(());
        }
        Err(SettingsError {
            flag: "price-refresh",
            problem: "must be at least 1m: prices change every few minutes at most, and reading them takes \
                      calls that other tools of the account need"
                .to_owned(),
        })
    }
}

/// The part of the reference page about these flags.
pub(super) fn markdown() -> String {
    page::table(PREAMBLE, PriceFlags::augment_args)
}

const PREAMBLE: &str = "
# Prices

Each reading takes one call for every thousand spot prices (type and zone) and one for every hundred on-demand prices (type),
about twenty for a large region; they cost nothing. Plans go on with the last prices meanwhile, and when a reading fails:
`time() - tonnage_prices_timestamp_seconds` is their age. The first plans after a start wait for EC2 to describe its types, some
ten pages, and to say which zones offer them: machines of a type that nobody knows would count as nothing and be bought a second
time, so no built-in table stands in. They wait half a minute at most for spot prices; without them spot counts at the on-demand
price. They wait as long for on-demand prices, but for one try alone. Until the Pricing API has answered, and always without
`--price-api`, on-demand prices are the built-in ones of us-east-1: a type that is not among them is not bought on demand, a line in
the log names such types when they change, and in another region `tonnage.dev/max-percent-of-on-demand` rules out nothing while it
would compare prices of two regions.
";
