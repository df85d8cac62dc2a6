//! xenstore's wire format (`xs_wire.h`), read and written a second time, independently of the crate
//! under test.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};

/// Bytes in front of each payload.
const HEADER: usize = 16;
/// The most that either side may send as payload. oxenstored sends more on sockets, so the harness
/// accepts more.
const SANE: usize = 1 << 20;

/// The type of a message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Op(pub(crate) u32);

/// Names each type once, for the code and for reading in a failed test's output.
macro_rules! ops {
    ($($name:ident = $number:literal,)*) => {
        impl Op {
            $(pub(crate) const $name: Self = Self($number);)*

            fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

ops! {
    CONTROL = 0,
    DIRECTORY = 1,
    READ = 2,
    GET_PERMS = 3,
    WATCH = 4,
    UNWATCH = 5,
    TRANSACTION_START = 6,
    TRANSACTION_END = 7,
    INTRODUCE = 8,
    RELEASE = 9,
    GET_DOMAIN_PATH = 10,
    WRITE = 11,
    MKDIR = 12,
    RM = 13,
    SET_PERMS = 14,
    WATCH_EVENT = 15,
    ERROR = 16,
    IS_DOMAIN_INTRODUCED = 17,
    RESUME = 18,
    SET_TARGET = 19,
    RESET_WATCHES = 21,
    DIRECTORY_PART = 22,
    GET_FEATURE = 23,
    SET_FEATURE = 24,
    GET_QUOTA = 25,
    SET_QUOTA = 26,
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "Op({})", self.0),
        }
    }
}

/// A request, a reply or a watch event.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// What it is.
    pub(crate) op: Op,
    /// Chosen by the client, repeated in the reply.
    pub(crate) request: u32,
    /// The transaction; 0 is none.
    pub(crate) transaction: u32,
    /// What follows the header.
    pub(crate) payload: Vec<u8>,
}

impl Message {
    /// The payload's first string: the path in a request or an event, the error's name in an error.
    pub(crate) fn path(&self) -> String {
        self.strings().into_iter().next().unwrap_or_default()
    }

    /// The payload's strings: each ends with a NUL, except perhaps the last.
    pub(crate) fn strings(&self) -> Vec<String> {
        let payload = self.payload.strip_suffix(b"\0").unwrap_or(&self.payload);
        payload.split(|byte| *byte == 0).map(|s| String::from_utf8_lossy(s).into_owned()).collect()
    }

    /// Reads one message; `UnexpectedEof` when the peer has closed.
    pub(crate) fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut header = [0; HEADER];
        from.read_exact(&mut header)?;
        let word =
            |n: usize| u32::from_ne_bytes(header[4 * n..4 * n + 4].try_into().expect("four bytes"));
        let length = word(3) as usize;
        if length > SANE {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                format!("payload of {length} bytes"),
            ));
        }
        let mut payload = vec![0; length];
        from.read_exact(&mut payload)?;
        Ok(Self { op: Op(word(0)), request: word(1), transaction: word(2), payload })
    }

    /// Writes it, in one piece.
    pub(crate) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let length = u32::try_from(self.payload.len()).expect("a short payload");
        let mut bytes = Vec::with_capacity(HEADER + self.payload.len());
        for word in [self.op.0, self.request, self.transaction, length] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(&self.payload);
        to.write_all(&bytes)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.op)?;
        if self.transaction != 0 {
            write!(f, " tx {}", self.transaction)?;
        }
        write!(f, " {}", self.payload.escape_ascii())
    }
}
