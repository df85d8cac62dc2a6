//! Takes down in the audit log what belongs there. Without the log the agent does its work all the same: a disk can
//! be full, and can keep who writes to it waiting, so the log is written off the loop, and what it cannot take yet
//! waits here.

use crate::audit::{Anchor, FileError, Log, Standstill};
use crate::telemetry::{self, Notable, Told};
use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::timeout;

/// How many entries wait at most. Those that come then are missed, and an entry says how many.
const MOST_WAITING: usize = 1024;

/// How long a write may take before that is told, and how long it is until the next one after one that failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the last entries may take when the daemon ends.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// Who does it.
#[derive(Debug)]
pub(super) struct Witness {
    /// Where the log is; none when none is wanted.
    path: Option<PathBuf>,
    /// What the log has not been given yet, the oldest first: at most [`MOST_WAITING`].
    waiting: VecDeque<Line>,
    /// How many there was no room for.
    missed: u64,
    pen: Pen,
    /// Not to be tried again before; at once without it.
    retry: Option<Instant>,
    told: HasTold,
}

/// What is to be taken down.
#[derive(Debug)]
struct Line {
    at: SystemTime,
    event: &'static str,
    text: String,
    fields: BTreeMap<String, String>,
}

/// The log is here, or with who writes it.
#[derive(Debug)]
enum Pen {
    /// None when it has to be opened anew.
    Resting(Option<Log>),
    Writing {
        since: Instant,
        task: JoinHandle<Written>,
    },
}

/// What the journal was told of the log last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HasTold {
    Nothing,
    GoesOn,
    Lost,
}

/// How a write has ended.
#[derive(Debug)]
pub(super) struct Written {
    /// None when it has to be opened anew.
    log: Option<Log>,
    /// What is not in the log, the oldest first.
    left: VecDeque<Line>,
    /// How many were missed, if the log does not say it yet.
    missed: u64,
    /// What the log went on after.
    result: Result<Anchor, FileError>,
}

impl Witness {
    /// A witness that keeps the log at `path`, if any.
    pub(super) fn new(path: Option<&Path>) -> Self {
        Self {
            path: path.map(Path::to_owned),
            waiting: VecDeque::new(),
            missed: 0,
            pen: Pen::Resting(None),
            retry: None,
            told: HasTold::Nothing,
        }
    }

    /// Takes a line down, if it belongs there: with the next [`turn`](Self::turn).
    pub(super) fn take_down(&mut self, told: &Told, at: SystemTime) {
        let kind = told.kind().filter(|kind| kind.is_audited && self.path.is_some());
        let Some(kind) = kind else { return };
        self.retry = None;
        if self.waiting.len() >= MOST_WAITING {
            self.missed += 1;
            return;
        }
        let fields = told.fields.iter();
        let fields =
            fields.map(|(name, value)| ((*name).to_owned(), value.clone().into_text())).collect();
        self.waiting.push_back(Line { at, event: kind.word, text: told.to_string(), fields });
    }

    /// Does what is due, and tells of a disk that keeps it waiting. To be called on a runtime.
    pub(super) fn turn(&mut self, now: Instant, date: SystemTime) {
        let has_all = self.has_all();
        let Some(path) = &self.path else { return };
        match &mut self.pen {
            Pen::Writing { since, .. } if *since + PATIENCE <= now => {
                let hangs = Standstill::Hangs(path.clone(), PATIENCE);
                self.lost(&hangs);
            }
            Pen::Writing { .. } => {}
            Pen::Resting(_) if has_all => {}
            Pen::Resting(_) if self.retry.is_some_and(|retry| now < retry) => {}
            Pen::Resting(log) => {
                let (path, log) = (path.clone(), log.take());
                let lines = std::mem::take(&mut self.waiting);
                let missed = std::mem::take(&mut self.missed);
                let task = spawn_blocking(move || write(&path, log, lines, missed, date));
                self.pen = Pen::Writing { since: now, task };
            }
        }
    }

    /// When [`turn`](Self::turn) has something to do next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.pen {
            Pen::Writing { since, .. } => (self.told != HasTold::Lost).then_some(*since + PATIENCE),
            Pen::Resting(_) => self.retry.filter(|_| !self.has_all()),
        }
    }

    /// Waits for the end of a write, for ever if none is under way. May be given up at any time.
    pub(super) async fn written(&mut self) -> Written {
        let Pen::Writing { task, .. } = &mut self.pen else { return pending().await };
        match task.await.map_err(JoinError::try_into_panic) {
            Ok(written) => written,
            // A bug, which goes on here as that of an errand does.
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            // Nothing cancels it.
            Err(Err(_)) => pending().await,
        }
    }

    /// Takes back the log from who wrote it.
    pub(super) fn returned(&mut self, written: Written, now: Instant) {
        let Written { log, left, missed, result } = written;
        self.pen = Pen::Resting(log);
        let later = std::mem::replace(&mut self.waiting, left);
        self.waiting.extend(later);
        self.missed += missed + self.waiting.len().saturating_sub(MOST_WAITING) as u64;
        self.waiting.truncate(MOST_WAITING);
        match result {
            Ok(_) if self.told == HasTold::GoesOn => {}
            Ok(before) => {
                telemetry::log(&Notable::Audited(before));
                self.told = HasTold::GoesOn;
            }
            Err(error) => {
                self.retry = Some(now + PATIENCE);
                self.lost(&error.into());
            }
        }
    }

    /// Has what waits written, and gives up after a while: somebody waits for the end.
    pub(super) async fn finish(mut self, now: Instant, date: SystemTime) {
        self.retry = None;
        self.turn(now, date);
        let rest = async {
            while matches!(self.pen, Pen::Writing { .. }) {
                let written = self.written().await;
                self.returned(written, now);
                self.turn(now, date);
            }
        };
        if timeout(LAST_PATIENCE, rest).await.is_err() {
            let path = self.path.clone().unwrap_or_default();
            self.lost(&Standstill::Hangs(path, LAST_PATIENCE));
        }
    }

    /// Whether the log has everything that it is to have.
    fn has_all(&self) -> bool {
        self.waiting.is_empty() && self.missed == 0
    }

    fn lost(&mut self, why: &Standstill) {
        if self.told != HasTold::Lost {
            telemetry::log(&Notable::AuditLost(why));
            self.told = HasTold::Lost;
        }
    }
}

impl Line {
    fn missed(count: u64, at: SystemTime) -> Self {
        let text = format!("missed {count} entries, which could not be written in time");
        Self { at, event: "missed", text, fields: [("count".to_owned(), count.to_string())].into() }
    }

    fn cut(bytes: u64, at: SystemTime) -> Self {
        let text = format!("cut off {bytes} bytes of an entry that was not finished");
        Self { at, event: "cut", text, fields: [("bytes".to_owned(), bytes.to_string())].into() }
    }

    fn add_to(&self, log: &mut Log) -> Result<(), FileError> {
        log.add(self.at, (self.event, &self.text), self.fields.clone())
    }
}

/// Writes what the log can take, and opens it first if it has to be. Blocks as long as the disk does.
fn write(
    path: &Path,
    log: Option<Log>,
    lines: VecDeque<Line>,
    missed: u64,
    date: SystemTime,
) -> Written {
    let (mut left, mut still_missed) = (lines, missed);
    let add = || {
        let (mut log, cut) = match log {
            Some(log) => (log, 0),
            None => Log::open(path)?,
        };
        let before = log.last();
        if cut > 0 {
            Line::cut(cut, date).add_to(&mut log)?;
        }
        while let Some(line) = left.front() {
            line.add_to(&mut log)?;
            left.pop_front();
        }
        if still_missed > 0 {
            Line::missed(still_missed, date).add_to(&mut log)?;
            still_missed = 0;
        }
        Ok((log, before))
    };
    let (log, result) = match add() {
        Ok((log, before)) => (Some(log), Ok(before)),
        Err(error) => (None, Err(error)),
    };
    Written { log, left, missed: still_missed, result }
}

#[cfg(test)]
mod tests {
    use super::super::clock::{date, now};
    use super::*;
    use crate::audit::{self, Entry};
    use crate::telemetry::Value;
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;
    use std::fs;
    use tokio::runtime::{Builder, Runtime};

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_all().build().unwrap()
    }

    fn attached(number: usize) -> Told {
        let device = Value::Word(number.to_string());
        let message = "attached".to_owned();
        Told { level: tracing::Level::INFO, message, fields: vec![("device", device)] }
    }

    fn take_down(witness: &mut Witness, numbers: std::ops::Range<usize>) {
        numbers.for_each(|number| witness.take_down(&attached(number), date()));
    }

    /// Has done what is due at `now`.
    async fn turn(witness: &mut Witness, now: Instant) {
        witness.turn(now, date());
        let written = witness.written().await;
        witness.returned(written, now);
    }

    /// The devices of the entries, or what else they tell.
    fn entries(path: &Path) -> Vec<String> {
        let reading = audit::read(path, None).unwrap();
        assert_eq!(reading.breaks, []);
        let device = |entry: &Entry| entry.fields.get("device").unwrap_or(&entry.line).clone();
        reading.entries.iter().map(device).collect()
    }

    #[test]
    fn what_cannot_be_written_waits_and_comes_into_the_log_in_its_order() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("log/audit");
        runtime().block_on(async {
            let (mut witness, start) = (Witness::new(Some(&path)), now());
            take_down(&mut witness, 0..2);
            turn(&mut witness, start).await;
            assert_eq!(witness.told, HasTold::Lost);
            take_down(&mut witness, 2..3);
            turn(&mut witness, start).await;
            let retry = witness.deadline().expect("it is tried again");
            assert_eq!(retry, start + PATIENCE);

            fs::create_dir(path.parent().unwrap()).unwrap();
            witness.turn(start, date());
            assert!(matches!(witness.pen, Pen::Resting(_)), "not before its time");
            turn(&mut witness, retry).await;
            assert_eq!(entries(&path), ["0", "1", "2"]);
            assert_eq!((witness.told, witness.deadline()), (HasTold::GoesOn, None));
        });
    }

    #[test]
    fn only_so_many_wait_and_the_log_tells_how_many_were_missed() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("log/audit");
        runtime().block_on(async {
            let mut witness = Witness::new(Some(&path));
            take_down(&mut witness, 0..MOST_WAITING - 2);
            witness.turn(now(), date());
            // While that is being written, which fails.
            take_down(&mut witness, MOST_WAITING - 2..MOST_WAITING + 3);
            let written = witness.written().await;
            witness.returned(written, now());
            for number in 0..4 {
                take_down(&mut witness, number..number + 1);
                turn(&mut witness, now()).await;
            }
            assert_eq!((witness.waiting.len(), witness.missed), (MOST_WAITING, 7));
            fs::create_dir(path.parent().unwrap()).unwrap();
            turn(&mut witness, now() + PATIENCE).await;
            take_down(&mut witness, 7..8);
            turn(&mut witness, now()).await;
            let entries = entries(&path);
            let missed = "missed 7 entries, which could not be written in time";
            assert_eq!(entries.len(), MOST_WAITING + 2);
            assert_eq!(entries[MOST_WAITING - 1..], ["1023", missed, "7"]);
        });
    }

    #[test]
    fn what_was_missed_is_told_although_nothing_else_waits() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("audit");
        runtime().block_on(async {
            // The last write has failed at just that entry.
            let retry = now() + PATIENCE;
            let mut witness = Witness::new(Some(&path));
            (witness.missed, witness.retry) = (3, Some(retry));
            assert_eq!(witness.deadline(), Some(retry));
            turn(&mut witness, retry).await;
            assert!(witness.has_all());
            let missed = "missed 3 entries, which could not be written in time";
            assert_eq!(entries(&path), [missed]);
        });
    }

    #[test]
    fn a_disk_that_hangs_is_told_of_once_and_holds_nobody_up() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("audit");
        // Who reads a pipe that nobody else writes to waits for ever, as on a disk that hangs.
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        let runtime = runtime();
        runtime.block_on(async {
            let (mut witness, start) = (Witness::new(Some(&path)), now());
            take_down(&mut witness, 0..1);
            witness.turn(start, date());
            let deadline = witness.deadline().expect("it is looked after");
            assert_eq!(deadline, start + PATIENCE);
            take_down(&mut witness, 1..MOST_WAITING + 9);
            witness.turn(start, date());
            assert_eq!(witness.told, HasTold::Nothing);
            witness.turn(deadline, date());
            assert_eq!((witness.told, witness.deadline()), (HasTold::Lost, None));
            assert_eq!((witness.waiting.len(), witness.missed), (MOST_WAITING, 8));
            let begun = now();
            witness.finish(begun, date()).await;
            assert!(now() - begun < 3 * LAST_PATIENCE);
        });
        // The thread that reads the pipe stays behind.
        runtime.shutdown_background();
    }

    #[test]
    fn the_end_waits_for_what_was_not_written_yet() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("audit");
        runtime().block_on(async {
            let mut witness = Witness::new(Some(&path));
            take_down(&mut witness, 0..1);
            witness.turn(now(), date());
            take_down(&mut witness, 1..3);
            witness.finish(now(), date()).await;
        });
        assert_eq!(entries(&path), ["0", "1", "2"]);
    }

    #[test]
    fn without_a_log_nothing_waits() {
        let mut witness = Witness::new(None);
        take_down(&mut witness, 0..3);
        witness.turn(now(), date());
        assert!(witness.waiting.is_empty() && witness.deadline().is_none());
    }
}
