//! Why nothing was done, as it is told: what it is, and what helps.

use super::super::EX_REFUSED;
use super::super::look::ONLY_ROOT;
use crate::host::xenstore;
use crate::model::{ControllerId, XenbusState};
use crate::plan::{Cause, Denial, StepError};
use serde::Serialize;
use std::io::{self, Write};

/// Why a controller was not made, or not removed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// It cannot be.
    #[error(transparent)]
    Denial(#[from] Denial),
    /// It was tried.
    #[error(transparent)]
    Step(#[from] StepError),
    /// Somebody else ended it.
    #[error("controller {0} was made, and somebody took it away again: its backend is {state}",
        state = .1.word())]
    Gone(ControllerId, XenbusState),
}

/// The same as JSON, in the form of the answers of a running agent. The names of the fields are an
/// interface.
#[derive(Serialize)]
struct Told<'a> {
    error: Fault<'a>,
}

#[derive(Serialize)]
struct Fault<'a> {
    /// A word for programs; it never changes.
    code: &'a str,
    message: String,
    advice: String,
}

impl Refusal {
    /// Tells it; gives the exit code.
    pub(super) fn write(
        &self,
        json: bool,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> io::Result<u8> {
        let (message, advice) = (self.to_string(), self.advice());
        if json {
            let error = Fault { code: self.code(), message, advice };
            serde_json::to_writer_pretty(&mut *out, &Told { error })?;
            writeln!(out)?;
            out.flush()?;
        } else {
            writeln!(err, "pvusb-agent: {message}")?;
            writeln!(err, "pvusb-agent: {advice}")?;
        }
        Ok(EX_REFUSED)
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Denial(denial) => denial.code(),
            Self::Step(StepError::Stale(_)) | Self::Gone(..) => "changed",
            Self::Step(StepError::Permanent(cause)) if is_denied(cause) => "not-root",
            Self::Step(StepError::Permanent(_) | StepError::Transient(_)) => "failed",
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Denial(denial) => denial.advice(),
            Self::Step(StepError::Permanent(cause)) if is_denied(cause) => ONLY_ROOT.to_owned(),
            Self::Step(_) | Self::Gone(..) => {
                "`pvusb-agent controller list` tells how it is now; then ask again".to_owned()
            }
        }
    }
}

fn is_denied(cause: &Cause) -> bool {
    cause.downcast_ref().is_some_and(|error| matches!(error, xenstore::Error::Denied { .. }))
}
