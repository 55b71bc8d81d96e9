//! One TLS provider for the whole workspace.

/// Makes ring the process's TLS provider; call it first in `main`. `reqwest` is built without a
/// provider of its own and would panic at its first HTTPS client. A second call changes nothing.
pub fn install_provider() {
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        tracing::trace!("a TLS provider is already installed");
    }
}
