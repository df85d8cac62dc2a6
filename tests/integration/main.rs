//! Tests against real parts: libudev, xenstored, oxenstored.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test cannot do without fails it, and the message is the report"
)]
#![allow(
    clippy::allow_attributes,
    reason = "the harness is shared: what one program leaves unused another needs"
)]

#[path = "../harness/mod.rs"]
mod harness;

#[path = "harness.rs"]
mod smoke;

mod bad_input;
mod blocking;
mod cli;
mod compat;
mod completions;
mod control;
mod controllers;
mod convert;
mod doctor;
mod documents;
mod files;
mod generate;
mod generated;
mod guards;
mod idle;
mod kills;
mod lifecycle;
mod like_xl;
mod main_job;
mod matching;
mod orders;
mod paper;
mod policy;
mod pv;
mod quarantine;
mod rules;
mod service;
mod sessions;
mod shipped;
mod situations;
mod storm;
mod targets;
mod trails;
mod watch;
mod weight;
mod wire;
mod world;
mod zoo;
