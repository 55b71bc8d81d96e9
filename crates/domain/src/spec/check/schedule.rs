//! `[schedule]`: when a gang is admitted.

use super::super::error::Sink;
use super::super::reader::Table;
use super::MAX_LIMIT_S;
use crate::memory::admission::{Admit, Schedule};

const ADMIT: [(&str, Admit); 3] = [
    ("fits", Admit::Fits),
    ("warn", Admit::Warn),
    ("always", Admit::Always),
];

/// Reads the table. *Undefined when* a value is wrong, or a wait is asked for that nothing would use.
pub(super) fn read(mut table: Table<'_>, sink: &mut Sink) -> Option<Schedule> {
    let default = Schedule::default();
    let admit = match table.take("admit") {
        Some(item) => item.one_of(&ADMIT, sink),
        None => Some(default.admit),
    };
    let wait_at = table.take("wait_s");
    let wait_s = match &wait_at {
        Some(item) => item.whole(0..=MAX_LIMIT_S, sink),
        None => Some(default.wait_s),
    };
    table.finish(sink);
    if let (Some(item), Some(Admit::Warn | Admit::Always)) = (&wait_at, admit) {
        item.fault(
            "nothing waits for room that is admitted without it",
            "set admit = \"fits\" or drop it",
            sink,
        );
        return None;
    }
    Some(Schedule {
        admit: admit?,
        wait_s: wait_s?,
    })
}
