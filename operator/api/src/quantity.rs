//! Amounts of bytes as people write them.

/// Bytes of a quantity of Kubernetes without a fraction: digits, and one of the suffixes k, M, G, T (powers
/// of 1000), Ki, Mi, Gi, Ti (of 1024), or none. `None`: it is no such quantity, or does not fit.
pub fn bytes(quantity: &str) -> Option<u64> {
    let digits = quantity.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = quantity.split_at(digits);
    let factor: u64 = match suffix {
        "" => 1,
        "k" => 1000,
        "M" => 1000_u64.pow(2),
        "G" => 1000_u64.pow(3),
        "T" => 1000_u64.pow(4),
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_bytes() {
        for (text, expected) in [
            ("1", Some(1)),
            ("12k", Some(12_000)),
            ("3M", Some(3_000_000)),
            ("5G", Some(5_000_000_000)),
            ("1T", Some(1_000_000_000_000)),
            ("2Ki", Some(2048)),
            ("51Mi", Some(51 << 20)),
            ("2Gi", Some(2 << 30)),
            ("1Ti", Some(1 << 40)),
            ("", None),
            ("Mi", None),
            ("1.5Gi", None),
            ("-1", None),
            ("1 Mi", None),
            ("1mi", None),
            ("1e6", None),
            ("18446744073709551615Ti", None),
        ] {
            assert_eq!(bytes(text), expected, "{text:?}");
        }
    }
}
