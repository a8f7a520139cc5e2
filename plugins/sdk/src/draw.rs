//! What samplers have in common.

use metareward_api::{OptionError, Sampling};

/// Checks that every parameter of a draw is in its range.
///
/// # Errors
/// Names the first one that is not, as the option of the same name, and what was expected.
pub fn check_sampling(sampling: &Sampling) -> Result<(), OptionError> {
    let Sampling { temperature, top_p, top_k, min_p, max_tokens, stop } = sampling;
    if !(temperature.is_finite() && *temperature >= 0.0) {
        return Err(OptionError::at("temperature", format!("expected a number from 0, found {temperature}")));
    }
    if !(*top_p > 0.0 && *top_p <= 1.0) {
        return Err(OptionError::at("top_p", format!("expected a number above 0 and up to 1, found {top_p}")));
    }
    if *top_k == Some(0) {
        return Err(OptionError::at("top_k", "expected a whole number from 1; leave it out to keep all tokens"));
    }
    if !(0.0..=1.0).contains(min_p) {
        return Err(OptionError::at("min_p", format!("expected a number from 0 to 1, found {min_p}")));
    }
    if *max_tokens == 0 {
        return Err(OptionError::at("max_tokens", "expected a whole number from 1"));
    }
    if stop.iter().any(String::is_empty) {
        return Err(OptionError::at("stop", "an empty text would end every answer at once"));
    }
    Ok(())
}
