//! The xenstore client.
