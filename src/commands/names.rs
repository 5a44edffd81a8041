//! What people may name things.

use super::error::CommandError;

/// Refuses a name that is empty, longer than `bytes_max`, or would not be seen as it is.
pub fn check(name: &str, bytes_max: usize) -> Result<(), CommandError> {
    let is_fine =
        !name.is_empty() && name.trim() == name && name.len() <= bytes_max && !name.chars().any(char::is_control);
    if is_fine {
        return Ok(());
    }
    Err(CommandError::Invalid {
        field: "name",
        sentence: format!(
            "\"name\" must have 1 to {bytes_max} bytes, no control characters, and no space at its ends."
        ),
    })
}
