//! Events to log lines.
