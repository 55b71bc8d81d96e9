//! One test per cause: what was slow is held against each cause's own evidence.

use super::types::CauseFinding;
use super::view::Scene;

/// What was found, the costliest first; then what could not be tested.
pub(super) fn findings(_scene: &Scene<'_>) -> Vec<CauseFinding> {
    Vec::new()
}
