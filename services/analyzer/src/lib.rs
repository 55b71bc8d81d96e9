//! Recomputes runs from the stream, writes bundles and reports.
