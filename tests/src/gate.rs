//! Who may run beside whom.
//!
//! Tests that judge times to the millisecond run alone; all others run side by side, as many at once
//! as libtest has threads.

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Fair: a test that waits to be alone keeps later ones out.
static GATE: RwLock<()> = RwLock::const_new(());

/// Held by a test that does not mind company.
#[must_use = "dropping it lets a timing test begin"]
pub struct Shared {
    _guard: RwLockReadGuard<'static, ()>,
}

/// Held by a test that must be alone in this process.
#[must_use = "dropping it lets other tests begin"]
pub struct Alone {
    _guard: RwLockWriteGuard<'static, ()>,
}

/// Waits until no timing test runs.
pub async fn shared() -> Shared {
    Shared {
        _guard: GATE.read().await,
    }
}

/// Waits until nothing else runs.
pub async fn alone() -> Alone {
    Alone {
        _guard: GATE.write().await,
    }
}
