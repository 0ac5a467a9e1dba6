//! Bytes for people and for scripts, without ambiguity.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::failure::Failure;

/// Text with what a terminal would not show, and the backslash, escaped: `\\`, `\n`, `\r`, `\t`, and
/// `\xNN` for other control characters and for bytes that are no UTF-8.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                other if other.is_control() => {
                    let mut buffer = [0; 4];
                    escape_bytes(&mut text, other.encode_utf8(&mut buffer).as_bytes());
                }
                other => text.push(other),
            }
        }
        escape_bytes(&mut text, chunk.invalid());
    }
    text
}

fn escape_bytes(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        write!(text, "\\x{byte:02x}").expect("a string takes all");
    }
}

/// Sets `NAME` to the text if the bytes are UTF-8, and `NAME_hex` to their hexadecimal digits if
/// they are not.
pub fn set(map: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => map.insert(name.to_owned(), text.into()),
        Err(_) => map.insert(format!("{name}_hex"), to_hex(bytes).into()),
    };
}

/// Lower-case hexadecimal digits.
pub fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string takes all");
    }
    text
}

/// Bytes from hexadecimal digits, as `option` wants them.
pub fn from_hex(text: &[u8], option: &str) -> Result<Vec<u8>, Failure> {
    let digit = |byte: &u8| (*byte as char).to_digit(16).map(|digit| digit as u8);
    let digits: Option<Vec<u8>> = text.iter().map(digit).collect();
    match digits {
        Some(digits) if digits.len().is_multiple_of(2) => Ok(digits
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect()),
        _ => Err(Failure::Usage {
            message: format!(
                "`{}` is no even number of hexadecimal digits, as {option} wants",
                escape(text)
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_the_same_is_the_same() {
        assert_eq!(escape(b"plain text"), "plain text");
        assert_eq!(escape("größe".as_bytes()), "größe");
        assert_eq!(escape(b"a\xffb"), "a\\xffb");
        assert_eq!(escape(b"a\\xffb"), "a\\\\xffb");
        assert_eq!(escape(b"\x00\x1b[31m\n"), "\\x00\\x1b[31m\\n");
        assert_eq!(escape("\u{85}".as_bytes()), "\\xc2\\x85");
    }

    #[test]
    fn hex_goes_both_ways_and_names_what_is_wrong() {
        assert_eq!(from_hex(b"00ffA1", "--hex").unwrap(), [0, 255, 0xa1]);
        assert_eq!(to_hex(&[0, 255, 0xa1]), "00ffa1");
        for wrong in [&b"0"[..], b"0g", b"0x00", b"\xff\xff"] {
            assert_eq!(from_hex(wrong, "--hex").unwrap_err().status(), 2);
        }
        assert!(
            from_hex(b"0g", "--hex")
                .unwrap_err()
                .to_string()
                .contains("`0g`")
        );
    }

    #[test]
    fn json_says_which_it_is() {
        let mut map = Map::new();
        set(&mut map, "key", b"text");
        set(&mut map, "value", b"\xff\x00");
        let json = serde_json::to_string(&map).unwrap();
        assert_eq!(json, r#"{"key":"text","value_hex":"ff00"}"#);
    }
}
