//! Plans runs, reserves gangs, drives phases.
