//! Powers of e and their logarithm, the same to the last bit on every machine.
//!
//! Those of the standard library come from the platform, and platforms differ in the last bits: equal
//! problems would not get equal answers everywhere. Only what IEEE 754 prescribes exactly is used here.

/// Below this power nothing is left that would count.
const NOTHING: f64 = -40.0;
/// Halvings of the power before its series, which then ends soon.
const HALVINGS: u32 = 8;
/// One by the factorials from 10 down to 1: Taylor's series for a power of at most 40 / 256.
const SERIES: [f64; 10] = [
    1.0 / 3_628_800.0,
    1.0 / 362_880.0,
    1.0 / 40_320.0,
    1.0 / 5_040.0,
    1.0 / 720.0,
    1.0 / 120.0,
    1.0 / 24.0,
    1.0 / 6.0,
    1.0 / 2.0,
    1.0,
];

/// e to a power of at most 0, to about 13 digits.
#[inline]
pub fn power(exponent: f64) -> f64 {
    if exponent < NOTHING || exponent.is_nan() {
        return 0.0;
    }
    let small = exponent.min(0.0) / f64::from(1_u32 << HALVINGS);
    let mut sum = 0.0;
    for factor in SERIES {
        sum = (sum + factor) * small;
    }
    sum += 1.0;
    for _halving in 0..HALVINGS {
        sum *= sum;
    }
    sum
}

/// The natural logarithm of a number of at least 1, to about 13 digits.
pub fn logarithm(number: f64) -> f64 {
    let mut rest = number.max(1.0);
    let mut twos = 0.0;
    while rest > 1.5 && rest.is_finite() {
        rest /= 2.0;
        twos += 1.0;
    }
    // ln x = 2 artanh((x - 1) / (x + 1)), with x between 0.75 and 1.5.
    let ratio = (rest - 1.0) / (rest + 1.0);
    let mut odd = ratio;
    let mut sum = ratio;
    for number in [3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0, 17.0] {
        odd *= ratio * ratio;
        sum += odd / number;
    }
    2.0 * sum + twos * std::f64::consts::LN_2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_what_the_platform_says_but_for_the_last_digits() {
        for step in 0..400 {
            let exponent = -f64::from(step) / 10.0;
            let exact = exponent.exp();
            assert!(
                (power(exponent) - exact).abs() <= 1e-12 * exact,
                "{exponent}"
            );
            let number = f64::from(step) * 0.37 + 1.0;
            let exact = number.ln();
            assert!(
                (logarithm(number) - exact).abs() <= 1e-12 * exact.max(1.0),
                "{number}"
            );
        }
        for nothing in [f64::NEG_INFINITY, f64::NAN] {
            assert!(power(nothing).abs() < f64::MIN_POSITIVE);
        }
    }
}
