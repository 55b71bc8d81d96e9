//! Samples GPU and host beside the runs.
