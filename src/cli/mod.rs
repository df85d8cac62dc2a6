//! One file per verb.

pub mod check;
