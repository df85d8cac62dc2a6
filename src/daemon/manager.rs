//! The service manager (systemd): what it is told, and that the loop still goes round. Without one,
//! nothing here does anything.

use crate::telemetry::{self, Notable};
use sd_notify::NotifyState;
use std::time::{Duration, Instant};

/// What the service manager knows of the daemon.
#[derive(Debug)]
pub(super) struct Manager {
    status: String,
    watchdog: Option<Watchdog>,
}

/// It wants to hear that the loop goes round (`WatchdogSec=`).
#[derive(Clone, Copy, Debug)]
struct Watchdog {
    /// Half of its patience, as `sd_watchdog_enabled(3)` advises.
    every: Duration,
    next: Instant,
}

impl Manager {
    /// As the environment says: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
    pub(super) fn new(now: Instant) -> Self {
        let patience = sd_notify::watchdog_enabled().filter(|patience| !patience.is_zero());
        let watchdog = patience.map(|patience| Watchdog { every: patience / 2, next: now });
        Self { status: String::new(), watchdog }
    }

    /// The daemon does its work: after its start, and after each [`reloading`](Self::reloading).
    pub(super) fn ready() {
        tell(&[NotifyState::Ready]);
    }

    /// The daemon reads its policy anew.
    pub(super) fn reloading() {
        // systemd 253 and later take no reload without the time, and none later than now.
        match NotifyState::monotonic_usec_now() {
            Ok(time) => tell(&[NotifyState::Reloading, time]),
            Err(error) => telemetry::log(&Notable::NotNotified(&error)),
        }
    }

    /// The daemon ends.
    pub(super) fn stopping() {
        tell(&[NotifyState::Stopping]);
    }

    /// The line that `systemctl status` shows. Nothing is sent while it stays the same.
    pub(super) fn status(&mut self, status: String) {
        if status != self.status {
            tell(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }

    /// When it wants to hear from the loop next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.watchdog.map(|watchdog| watchdog.next)
    }

    /// The loop has gone round.
    pub(super) fn alive(&mut self, now: Instant) {
        if let Some(watchdog) = self.watchdog.as_mut().filter(|watchdog| watchdog.next <= now) {
            tell(&[NotifyState::Watchdog]);
            watchdog.next = now + watchdog.every;
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        telemetry::log(&Notable::NotNotified(&error));
    }
}
