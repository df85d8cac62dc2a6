//! Takes down in the audit log what belongs there. Without the log the agent does its work all the same.

use super::clock::date;
use crate::audit::{FileError, Log};
use crate::telemetry::{self, Notable, Told};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Who does it.
#[derive(Debug)]
pub(super) struct Witness {
    /// Where the log is; none when none is wanted.
    path: Option<PathBuf>,
    /// None when it has to be opened anew.
    log: Option<Log>,
    /// Whether it was told that it cannot be written.
    is_lost: bool,
}

impl Witness {
    /// Opens the log at `path`, and tells where it goes on.
    pub(super) fn new(path: Option<&Path>) -> Self {
        let mut witness = Self { path: path.map(Path::to_owned), log: None, is_lost: false };
        if let Err(error) = witness.open(date()) {
            witness.lost(&error);
        }
        if let Some(log) = &witness.log {
            telemetry::log(&Notable::Audited(log.last()));
        }
        witness
    }

    /// Takes a line down, if it belongs there.
    pub(super) fn take_down(&mut self, told: &Told, at: SystemTime) {
        let Some(kind) = told.kind().filter(|kind| kind.is_audited) else { return };
        let fields = told.fields.iter();
        let fields =
            fields.map(|(name, value)| ((*name).to_owned(), value.clone().into_text())).collect();
        let done = self.open(at).and_then(|()| match &mut self.log {
            Some(log) => log.add(at, (kind.word, &told.to_string()), fields),
            None => Ok(()),
        });
        match done {
            Ok(()) => self.is_lost = false,
            Err(error) => self.lost(&error),
        }
    }

    fn open(&mut self, at: SystemTime) -> Result<(), FileError> {
        let Some(path) = self.path.as_deref().filter(|_| self.log.is_none()) else { return Ok(()) };
        let (mut log, cut) = Log::open(path)?;
        if cut > 0 {
            let line = format!("cut off {cut} bytes of an entry that was not finished");
            log.add(at, ("cut", &line), [("bytes".to_owned(), cut.to_string())].into())?;
        }
        self.log = Some(log);
        Ok(())
    }

    fn lost(&mut self, error: &FileError) {
        self.log = None;
        if !self.is_lost {
            telemetry::log(&Notable::AuditLost(error));
        }
        self.is_lost = true;
    }
}
