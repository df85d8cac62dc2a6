//! THE AUDIT LOG: who or what moved which device where, and when. It is only added to, bounded in size, and each entry
//! names the hash of the one before it, so that a line that was changed or taken out shows.
//!
//! Nothing is decided here, and nothing depends on it: what is attached, xenstore knows.
//!
//! The chain does not stop somebody who may write the files from making all of it anew. Against that helps a
//! hash that was noted elsewhere ([`Anchor`]); the agent tells the journal one at each start.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

/// How large a file may become, in bytes; then it is put aside as `FILE.1`.
pub const MAX_BYTES: u64 = 1 << 20;

/// How many files that were put aside are kept.
pub const KEPT: u32 = 4;

/// Who may read it.
const MODE: u32 = 0o600;

/// An entry: one line of JSON. The names of the fields are an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its number: one more than that of the entry before it.
    pub n: u64,
    /// When, in UTC, with milliseconds (RFC 3339).
    pub at: String,
    /// What happened, in a word (docs/messages.md).
    pub event: String,
    /// The same with everything that belongs to it, for people.
    pub line: String,
    /// What stands in the line.
    pub fields: BTreeMap<String, String>,
    /// The hash of the line before it; that of the first is all zeros.
    pub prev: Hash,
}

/// SHA-256 of a line, without its newline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hash([u8; 32]);

impl Hash {
    fn of(line: &[u8]) -> Self {
        Self(Sha256::digest(line).into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Not 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hash is 64 hexadecimal digits")]
pub struct HashError;

impl FromStr for Hash {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, HashError> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(HashError);
        }
        let mut hash = [0; 32];
        for (at, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| HashError)?;
        }
        Ok(Self(hash))
    }
}

impl Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// An entry that somebody has noted elsewhere: `NUMBER:HASH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The entry.
    pub n: u64,
    /// What its line must hash to.
    pub hash: Hash,
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.n, self.hash)
    }
}

/// Not a number, a colon and a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an anchor is the number of an entry, a colon, and its hash of 64 hexadecimal digits")]
pub struct AnchorError;

impl FromStr for Anchor {
    type Err = AnchorError;

    fn from_str(text: &str) -> Result<Self, AnchorError> {
        let (n, hash) = text.split_once(':').ok_or(AnchorError)?;
        let n = n.parse().map_err(|_| AnchorError)?;
        Ok(Self { n, hash: hash.parse().map_err(|_| AnchorError)? })
    }
}

/// A file of the log cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct FileError(PathBuf, #[source] io::Error);

/// Why the log does not go on.
#[derive(Debug, thiserror::Error)]
pub enum Standstill {
    /// A file of it cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The disk has not answered for so long.
    #[error("{}: nothing could be written for {} s", .0.display(), .1.as_secs())]
    Hangs(PathBuf, Duration),
}

/// The log, to be added to.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    size: u64,
    last: Anchor,
}

impl Log {
    /// Opens the log at `path`, which is made if it is not there. Tells how many bytes of an unfinished last
    /// line were cut off: of a writer that was killed.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written.
    pub fn open(path: &Path) -> Result<(Self, u64), FileError> {
        let at = |error| FileError(path.to_owned(), error);
        let file = File::options().append(true).create(true).read(true).mode(MODE).open(path);
        let file = file.map_err(at)?;
        let bytes = fs::read(path).map_err(at)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let (size, cut) = (whole as u64, (bytes.len() - whole) as u64);
        if cut > 0 {
            file.set_len(size).map_err(at)?;
        }
        let last = match last_of(&bytes[..whole]) {
            Some(last) => last,
            // It was put aside a moment ago, or never was.
            None => match fs::read(aside(path, 1)) {
                Ok(bytes) => last_of(&bytes).unwrap_or(BEFORE_THE_FIRST),
                Err(error) if error.kind() == io::ErrorKind::NotFound => BEFORE_THE_FIRST,
                Err(error) => return Err(FileError(aside(path, 1), error)),
            },
        };
        Ok((Self { path: path.to_owned(), file, size, last }, cut))
    }

    /// The last entry.
    pub fn last(&self) -> Anchor {
        self.last
    }

    /// Adds an entry. It has left the process when this returns, and is on the disk when the kernel
    /// writes it there: a crash of the host can take the last seconds.
    ///
    /// # Errors
    ///
    /// When it cannot be written. Then the log is to be opened anew: a part of the line may be there.
    pub fn add(
        &mut self,
        at: SystemTime,
        (event, line): (&str, &str),
        fields: BTreeMap<String, String>,
    ) -> Result<(), FileError> {
        let entry = Entry {
            n: self.last.n + 1,
            at: humantime::format_rfc3339_millis(at).to_string(),
            event: event.to_owned(),
            line: line.to_owned(),
            fields,
            prev: self.last.hash,
        };
        let failed = |error| FileError(self.path.clone(), error);
        let mut line = serde_json::to_vec(&entry).map_err(|error| failed(error.into()))?;
        let hash = Hash::of(&line);
        line.push(b'\n');
        if self.size > 0 && self.size + line.len() as u64 > MAX_BYTES {
            self.put_aside().map_err(|error| FileError(self.path.clone(), error))?;
        }
        self.file.write_all(&line).map_err(|error| FileError(self.path.clone(), error))?;
        self.size += line.len() as u64;
        self.last = Anchor { n: entry.n, hash };
        Ok(())
    }

    /// The oldest file goes, and each other one gets the name of the next older one.
    fn put_aside(&mut self) -> io::Result<()> {
        for number in (1..KEPT).rev() {
            match fs::rename(aside(&self.path, number), aside(&self.path, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        fs::rename(&self.path, aside(&self.path, 1))?;
        let options = File::options().append(true).create_new(true).mode(MODE).open(&self.path);
        (self.file, self.size) = (options?, 0);
        Ok(())
    }
}

/// What the first entry says of the one before it.
const BEFORE_THE_FIRST: Anchor = Anchor { n: 0, hash: Hash([0; 32]) };

/// The last line, whatever it is: what comes after it hangs on its bytes.
fn last_of(bytes: &[u8]) -> Option<Anchor> {
    let mut lines = lines(bytes);
    let last = lines.next_back()?;
    let numbered = std::iter::once(last).chain(lines.rev()).enumerate();
    let mut found = numbered.filter_map(|(later, line)| {
        let entry: Entry = serde_json::from_slice(line).ok()?;
        entry.n.checked_add(u64::try_from(later).ok()?)
    });
    Some(Anchor { n: found.next().unwrap_or(0), hash: Hash::of(last) })
}

fn lines(bytes: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.split(|byte| *byte == b'\n').filter(move |_| !bytes.is_empty())
}

/// The file that was put aside so many times.
fn aside(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// What a log says, from its oldest file on.
#[derive(Debug, Default)]
pub struct Reading {
    /// The entries that could be read.
    pub entries: Vec<Entry>,
    /// What is wrong with the chain, in the order of the lines.
    pub breaks: Vec<Break>,
    /// The last entry.
    pub last: Option<Anchor>,
}

/// A place where the chain does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize)]
#[error("{}:{line}: {what}", file.display())]
pub struct Break {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: Flaw,
}

/// What is wrong with the chain. Shown as a sentence without a full stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The line cannot be read.
    #[error("this is no entry")]
    NoEntry,
    /// Entries are missing, or there twice.
    #[error("entry {n} follows on entry {before}")]
    Order {
        /// This entry.
        n: u64,
        /// The one on the line before it.
        before: u64,
    },
    /// The line before it was changed, or it was itself.
    #[error("the entry before entry {n} is not the one it followed")]
    Before {
        /// This entry.
        n: u64,
    },
    /// It is not what somebody has noted elsewhere.
    #[error("entry {n} is not the one that was noted")]
    Other {
        /// This entry.
        n: u64,
    },
    /// What somebody has noted elsewhere is nowhere.
    #[error("entry {n}, which was noted, is not there")]
    Missing {
        /// The entry.
        n: u64,
    },
}

impl Serialize for Flaw {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads the log at `path` and what was put aside of it, and holds each entry against the one before
/// it, and against `anchor`. An unfinished last line is passed over: somebody may be writing it.
///
/// # Errors
///
/// When a file cannot be read, or there is none.
pub fn read(path: &Path, anchor: Option<Anchor>) -> Result<Reading, FileError> {
    let mut reading = Reading::default();
    let mut found = anchor.is_none();
    let files = (1..=KEPT).rev().map(|number| aside(path, number)).chain([path.to_owned()]);
    for file in files {
        let bytes = match fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && file != path => continue,
            read => read.map_err(|error| FileError(file.clone(), error))?,
        };
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for (number, line) in (1..).zip(lines(&bytes[..whole])) {
            let mut broken = |what: Flaw| {
                reading.breaks.push(Break { file: file.clone(), line: number, what });
            };
            let hash = Hash::of(line);
            let Ok(entry) = serde_json::from_slice::<Entry>(line) else {
                broken(Flaw::NoEntry);
                let n = reading.last.map_or(0, |last| last.n) + 1;
                reading.last = Some(Anchor { n, hash });
                continue;
            };
            let before = reading.last.or((entry.n == 1).then_some(BEFORE_THE_FIRST));
            if let Some(before) = before {
                if entry.n != before.n.saturating_add(1) {
                    broken(Flaw::Order { n: entry.n, before: before.n });
                } else if entry.prev != before.hash {
                    broken(Flaw::Before { n: entry.n });
                }
            }
            let here = Anchor { n: entry.n, hash };
            if let Some(anchor) = anchor.filter(|anchor| anchor.n == here.n) {
                found = true;
                if anchor != here {
                    broken(Flaw::Other { n: entry.n });
                }
            }
            reading.last = Some(here);
            reading.entries.push(entry);
        }
    }
    if let Some(anchor) = anchor.filter(|_| !found) {
        let what = Flaw::Missing { n: anchor.n };
        reading.breaks.push(Break { file: path.to_owned(), line: 0, what });
    }
    Ok(reading)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(tempfile::TempDir);

    impl Scratch {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self) -> PathBuf {
            self.0.path().join("audit")
        }

        fn open(&self) -> Log {
            Log::open(&self.path()).unwrap().0
        }

        fn text(&self) -> String {
            fs::read_to_string(self.path()).unwrap()
        }

        fn breaks(&self, anchor: Option<Anchor>) -> Vec<String> {
            let breaks = read(&self.path(), anchor).unwrap().breaks;
            breaks.into_iter().map(|it| format!("{}: {}", it.line, it.what)).collect()
        }
    }

    fn add(log: &mut Log, count: usize) {
        for at in 0..count {
            let fields = BTreeMap::from([("device".to_owned(), format!("1-{at}"))]);
            let date = SystemTime::UNIX_EPOCH + Duration::from_secs(at as u64);
            log.add(date, ("attached", "attached device=1"), fields).unwrap();
        }
    }

    #[test]
    fn a_log_goes_on_where_it_was_and_holds() {
        let scratch = Scratch::new();
        add(&mut scratch.open(), 2);
        add(&mut scratch.open(), 1);
        let reading = read(&scratch.path(), None).unwrap();
        let numbers: Vec<_> = reading.entries.iter().map(|entry| entry.n).collect();
        assert_eq!((numbers, &*reading.breaks), (vec![1, 2, 3], &[][..]));
        assert_eq!(reading.last, Some(scratch.open().last()));
        assert_eq!(reading.entries[1].at, "1970-01-01T00:00:01.000Z");
    }

    #[test]
    fn a_line_that_was_changed_taken_out_or_put_in_shows() {
        let scratch = Scratch::new();
        add(&mut scratch.open(), 4);
        let text = scratch.text();
        let lines: Vec<&str> = text.lines().collect();
        let cases = [
            (
                text.replacen("1-1", "1-9", 1),
                "3: the entry before entry 3 is not the one it followed",
            ),
            (
                format!("{}\n{}\n{}\n", lines[0], lines[2], lines[3]),
                "2: entry 3 follows on entry 1",
            ),
            (format!("{}\n{text}", lines[0]), "2: entry 1 follows on entry 1"),
            (text.replacen("{\"n\":2", "{\"n\":x", 1), "2: this is no entry"),
            (
                text.replacen("000000", "000001", 1),
                "1: the entry before entry 1 is not the one it followed",
            ),
        ];
        for (changed, expected) in cases {
            fs::write(scratch.path(), changed).unwrap();
            assert_eq!(scratch.breaks(None).first().map(String::as_str), Some(expected));
        }
    }

    #[test]
    fn a_chain_that_was_made_anew_shows_by_what_was_noted_elsewhere() {
        let scratch = Scratch::new();
        add(&mut scratch.open(), 3);
        let noted = scratch.open().last();
        assert_eq!(noted.to_string().parse(), Ok(noted));
        assert!(scratch.breaks(Some(noted)).is_empty());
        fs::remove_file(scratch.path()).unwrap();
        add(&mut scratch.open(), 2);
        assert_eq!(scratch.breaks(Some(noted)), ["0: entry 3, which was noted, is not there"]);
        add(&mut scratch.open(), 1);
        assert_eq!(scratch.breaks(Some(noted)), ["3: entry 3 is not the one that was noted"]);
        assert!("3:abc".parse::<Anchor>().is_err() && "abc".parse::<Anchor>().is_err());
    }

    #[test]
    fn what_a_killed_writer_left_is_cut_off_and_the_chain_holds() {
        let scratch = Scratch::new();
        add(&mut scratch.open(), 2);
        let text = scratch.text();
        for end in 0..=text.len() {
            fs::write(scratch.path(), &text[..end]).unwrap();
            let whole = text[..end].rfind('\n').map_or(0, |at| at + 1);
            assert!(scratch.breaks(None).is_empty(), "while it is being written");
            let (mut log, cut) = Log::open(&scratch.path()).unwrap();
            assert_eq!(cut, (end - whole) as u64);
            add(&mut log, 1);
            assert!(scratch.breaks(None).is_empty());
        }
    }

    #[test]
    fn the_log_is_bounded_and_its_files_hang_together() {
        let scratch = Scratch::new();
        let mut log = scratch.open();
        let line = "x".repeat(200_000);
        for _ in 0..60 {
            log.add(SystemTime::UNIX_EPOCH, ("attached", &line), BTreeMap::new()).unwrap();
        }
        let files = fs::read_dir(scratch.0.path()).unwrap().count();
        assert_eq!(files, 1 + KEPT as usize);
        let size = |file: fs::DirEntry| file.metadata().unwrap().len();
        assert!(fs::read_dir(scratch.0.path()).unwrap().all(|it| size(it.unwrap()) <= MAX_BYTES));
        let reading = read(&scratch.path(), None).unwrap();
        assert!(reading.breaks.is_empty() && reading.entries[0].n > 1);
        assert_eq!(reading.last.unwrap().n, 60);
        // Killed right after a file was put aside.
        fs::rename(scratch.path(), aside(&scratch.path(), 1)).unwrap();
        add(&mut scratch.open(), 1);
        assert_eq!(read(&scratch.path(), None).unwrap().last.unwrap().n, 61);
    }

    #[test]
    fn only_its_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = Scratch::new();
        add(&mut scratch.open(), 1);
        assert_eq!(fs::metadata(scratch.path()).unwrap().permissions().mode() & 0o777, MODE);
    }
}
