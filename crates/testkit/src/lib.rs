//! Test doubles and real test servers; dev only.
