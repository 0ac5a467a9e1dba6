//! Bounds of what clients may ask.

use super::error::ApiError;
use crate::machine::kv::KEY_BYTES_MAX;

/// A command has 1 to `max` bytes.
pub(super) fn command(command: &[u8], max: usize) -> Result<(), ApiError> {
    if command.is_empty() {
        return Err(empty("command", format!("1 to {max} bytes")));
    }
    at_most("command", command.len(), max)
}

/// A key has 1 to 4096 bytes.
pub(super) fn key(key: &[u8]) -> Result<(), ApiError> {
    if key.is_empty() {
        return Err(empty("key", format!("1 to {KEY_BYTES_MAX} bytes")));
    }
    at_most("key", key.len(), KEY_BYTES_MAX)
}

/// A field has at most `max` bytes.
pub(super) fn at_most(field: &'static str, length: usize, max: usize) -> Result<(), ApiError> {
    match length <= max {
        true => Ok(()),
        false => Err(ApiError::TooLarge { field, length, max }),
    }
}

fn empty(field: &'static str, right: String) -> ApiError {
    ApiError::Invalid {
        field,
        problem: "is empty".into(),
        right,
    }
}
