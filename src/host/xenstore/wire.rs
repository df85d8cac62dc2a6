//! The bytes of the xenstore protocol: headers, payloads, limits and error names.
//!
//! A pure codec: bytes in, values out. No IO, no state beyond a half-received message, and no
//! opinion about which reply belongs to which request. The source of every fact here is
//! `xen/include/public/io/xs_wire.h` and `docs/misc/xenstore.txt` of Xen, and where the two daemons
//! differ `tools/xenstored/core.c` (C xenstored) and `tools/ocaml/xenstored/process.ml`
//! (oxenstored).

use std::fmt;

use super::perms::Permission;

/// Bytes of a message's header: four `u32` in host byte order.
pub(super) const HEADER_LEN: usize = 16;

/// Most payload bytes of a message that is sent.
///
/// Both daemons take 4096 (`XENSTORE_PAYLOAD_MAX`) and drop the connection above it. The kernel's
/// `/dev/xen/xenbus` buffers header and payload together in 4096 bytes, so the stricter limit is 16
/// less.
pub(super) const MAX_SENT: usize = 4096 - HEADER_LEN;

/// Most payload bytes of a message that is received (`XENSTORE_PAYLOAD_MAX`), directories excepted.
const MAX_RECEIVED: usize = 4096;

/// Most payload bytes of a directory's names.
///
/// oxenstored does not split long directories: it sends them in one message of any length. A guest
/// may own 1000 nodes (`quota-maxentity`) with names of up to 2048 bytes (the protocol's limit): 2
/// MiB in one directory. The limit must be above that, or a guest could cut the agent's connection
/// by making long names. Twice as much leaves room for nodes of dom0 beside them. A longer one is
/// nothing but a broken peer.
pub(super) const MAX_LISTING: usize = 4 << 20;

/// Longest error name that is kept, in bytes before escaping. The known ones have at most nine.
const MAX_ERROR_NAME: usize = 64;

/// What a message is: the requests that this client makes, and the two answers that are no request.
///
/// The numbers are `enum xsd_sockmsg_type` of `xs_wire.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Kind {
    /// `XS_DIRECTORY`: the names of a node's children.
    Directory = 1,
    /// `XS_READ`: a node's value.
    Read = 2,
    /// `XS_GET_PERMS`: a node's permissions.
    GetPerms = 3,
    /// `XS_WATCH`: tell about changes at or below a path.
    Watch = 4,
    /// `XS_UNWATCH`: stop telling.
    Unwatch = 5,
    /// `XS_TRANSACTION_START`.
    TransactionStart = 6,
    /// `XS_TRANSACTION_END`: commit or abort.
    TransactionEnd = 7,
    /// `XS_WRITE`: set a node's value; creates the node and its parents.
    Write = 11,
    /// `XS_MKDIR`: create a node if it is missing.
    Mkdir = 12,
    /// `XS_RM`: remove a node and all below it.
    Rm = 13,
    /// `XS_SET_PERMS`: replace a node's permissions.
    SetPerms = 14,
    /// `XS_WATCH_EVENT`: something happened at or below a watched path. Only ever received.
    WatchEvent = 15,
    /// `XS_ERROR`: the answer to a request that was refused. Only ever received.
    Error = 16,
    /// `XS_IS_DOMAIN_INTRODUCED`: whether the daemon serves a domain.
    IsDomainIntroduced = 17,
    /// `XS_DIRECTORY_PART`: a part of a long directory (C xenstored since Xen 4.9).
    DirectoryPart = 22,
}

impl Kind {
    const ALL: [Self; 15] = [
        Self::Directory,
        Self::Read,
        Self::GetPerms,
        Self::Watch,
        Self::Unwatch,
        Self::TransactionStart,
        Self::TransactionEnd,
        Self::Write,
        Self::Mkdir,
        Self::Rm,
        Self::SetPerms,
        Self::WatchEvent,
        Self::Error,
        Self::IsDomainIntroduced,
        Self::DirectoryPart,
    ];

    fn from_wire(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == number)
    }

    fn max_received(self) -> usize {
        if self == Self::Directory { MAX_LISTING } else { MAX_RECEIVED }
    }
}

/// The verb of an error message: `read`, `list`, `set the permissions of`.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Directory | Self::DirectoryPart => "list",
            Self::Read => "read",
            Self::GetPerms => "read the permissions of",
            Self::Watch => "watch",
            Self::Unwatch => "stop watching",
            Self::TransactionStart => "start a transaction",
            Self::TransactionEnd => "end a transaction",
            Self::Write => "write",
            Self::Mkdir => "create",
            Self::Rm => "remove",
            Self::SetPerms => "set the permissions of",
            Self::WatchEvent => "watch event",
            Self::Error => "error",
            Self::IsDomainIntroduced => "look for domain",
        })
    }
}

/// What was wrong with a message that the daemon sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The header names a type that answers nothing this client asks.
    #[error("message of unknown type {number}")]
    UnknownKind {
        /// The type as received.
        number: u32,
    },
    /// The header announces more than the protocol allows.
    #[error("`{kind}` message of {len} bytes where at most {limit} are allowed")]
    TooLong {
        /// The message's type.
        kind: Kind,
        /// Announced payload, in bytes.
        len: u32,
        /// The most that is allowed, in bytes.
        limit: usize,
    },
    /// A reply to a request that is not waiting for one.
    #[error("reply to request {req_id}, which is not waiting for one")]
    UnknownRequest {
        /// The request id as received.
        req_id: u32,
    },
    /// A reply whose type is not the request's.
    #[error("`{got}` reply to a `{asked}` request")]
    WrongKind {
        /// What was asked.
        asked: Kind,
        /// What came.
        got: Kind,
    },
    /// A reply whose transaction is not the request's.
    #[error("`{kind}` reply for transaction {got} to a request of transaction {asked}")]
    WrongTransaction {
        /// What was asked.
        kind: Kind,
        /// The request's transaction id, 0 outside of transactions.
        asked: u32,
        /// The reply's.
        got: u32,
    },
    /// A payload that is not what the protocol says.
    #[error("`{kind}` message {problem}")]
    Payload {
        /// The message's type.
        kind: Kind,
        /// What is wrong with it, as a fragment that follows "message".
        problem: &'static str,
    },
}

/// The payload of a request. It fits into a message: there is no other way to make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Payload {
    bytes: Vec<u8>,
    len: u32,
}

impl Payload {
    /// Strings, each followed by a NUL.
    ///
    /// # Errors
    /// The length in bytes, when it is more than [`MAX_SENT`].
    pub(super) fn strings<S: AsRef<str>>(strings: &[S]) -> Result<Self, usize> {
        let mut bytes = Vec::new();
        for string in strings {
            bytes.extend_from_slice(string.as_ref().as_bytes());
            bytes.push(0);
        }
        Self::new(bytes)
    }

    /// A path, a NUL, and a value without one: the payload of `XS_WRITE`.
    ///
    /// # Errors
    /// The length in bytes, when it is more than [`MAX_SENT`].
    pub(super) fn path_and_value(path: &str, value: &[u8]) -> Result<Self, usize> {
        let mut bytes = Vec::with_capacity(path.len() + 1 + value.len());
        bytes.extend_from_slice(path.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(value);
        Self::new(bytes)
    }

    fn new(bytes: Vec<u8>) -> Result<Self, usize> {
        match u32::try_from(bytes.len()) {
            Ok(len) if bytes.len() <= MAX_SENT => Ok(Self { bytes, len }),
            _ => Err(bytes.len()),
        }
    }
}

/// A whole message, ready to be written. `tx_id` is 0 outside of transactions.
pub(super) fn encode(kind: Kind, req_id: u32, tx_id: u32, payload: &Payload) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER_LEN + payload.bytes.len());
    for field in [kind as u32, req_id, tx_id, payload.len] {
        message.extend_from_slice(&field.to_ne_bytes());
    }
    message.extend_from_slice(&payload.bytes);
    message
}

/// A message as received. Its header is checked, its payload is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) req_id: u32,
    pub(super) tx_id: u32,
    pub(super) payload: Vec<u8>,
}

/// Cuts a stream of bytes into messages, however the bytes are split over reads.
///
/// It holds at most one incomplete message and what was fed last. Memory grows with the bytes that
/// came, never with a length that was only announced.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    buffer: Vec<u8>,
    /// Bytes at the front of `buffer` that are already taken.
    taken: usize,
}

impl Decoder {
    /// Adds bytes as they came from the peer.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete message, `None` while there is none.
    ///
    /// # Errors
    /// A header that cannot be right. The stream is of no use from there on: nothing says where the
    /// next one starts.
    pub(super) fn take_message(&mut self) -> Result<Option<Message>, Fault> {
        let waiting = self.buffer.get(self.taken..).unwrap_or_default();
        let Some((header, rest)) = waiting.split_first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let [number, req_id, tx_id, len] = header_fields(header);
        let kind = Kind::from_wire(number).ok_or(Fault::UnknownKind { number })?;
        let limit = kind.max_received();
        let payload_len = match usize::try_from(len) {
            Ok(bytes) if bytes <= limit => bytes,
            _ => return Err(Fault::TooLong { kind, len, limit }),
        };
        let Some(payload) = rest.get(..payload_len) else {
            return Ok(None);
        };
        let payload = payload.to_vec();
        self.taken += HEADER_LEN + payload_len;
        Ok(Some(Message { kind, req_id, tx_id, payload }))
    }
}

fn header_fields(header: &[u8; HEADER_LEN]) -> [u32; 4] {
    let (words, _) = header.as_chunks::<4>();
    let mut fields = [0; 4];
    for (field, word) in fields.iter_mut().zip(words) {
        *field = u32::from_ne_bytes(*word);
    }
    fields
}

/// What a reply says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// A node's value.
    Value(Vec<u8>),
    /// The names of a node's children, in the daemon's order.
    Names(Vec<String>),
    /// A part of them.
    Part(Part),
    /// A node's permissions, the owner's entry first.
    Permissions(Vec<Permission>),
    /// Yes or no.
    Flag(bool),
    /// The id of a new transaction, never 0.
    Transaction(u32),
    /// It is done; there is nothing more to say.
    Done,
}

/// One method for each type that callers get, `None` for an answer of another type.
impl Answer {
    pub(super) fn value(self) -> Option<Vec<u8>> {
        if let Self::Value(value) = self { Some(value) } else { None }
    }

    pub(super) fn names(self) -> Option<Vec<String>> {
        if let Self::Names(names) = self { Some(names) } else { None }
    }

    pub(super) fn permissions(self) -> Option<Vec<Permission>> {
        if let Self::Permissions(permissions) = self { Some(permissions) } else { None }
    }

    pub(super) fn flag(self) -> Option<bool> {
        if let Self::Flag(flag) = self { Some(flag) } else { None }
    }

    pub(super) fn done(self) -> Option<()> {
        if let Self::Done = self { Some(()) } else { None }
    }
}

/// A part of a directory (`send_directory_part` of `tools/xenstored/core.c`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Changes when the directory changes: parts of different generations do not belong together.
    pub(super) generation: String,
    pub(super) names: Vec<String>,
    /// Whether the directory ends here.
    pub(super) last: bool,
}

/// Reads the payload of a reply to a request of this kind.
///
/// # Errors
/// [`Fault::Payload`] for one that the protocol does not allow.
pub(super) fn decode_answer(kind: Kind, payload: Vec<u8>) -> Result<Answer, Fault> {
    match kind {
        Kind::Read => Ok(Answer::Value(payload)),
        Kind::Directory => decode_names(&payload).map(Answer::Names),
        Kind::DirectoryPart => decode_part(&payload).map(Answer::Part),
        Kind::GetPerms => decode_permissions(&payload).map(Answer::Permissions),
        Kind::TransactionStart => decode_transaction(&payload).map(Answer::Transaction),
        Kind::IsDomainIntroduced => match payload.as_slice() {
            b"T\0" => Ok(Answer::Flag(true)),
            b"F\0" => Ok(Answer::Flag(false)),
            _ => Err(Fault::Payload { kind, problem: "is neither yes nor no" }),
        },
        Kind::Watch
        | Kind::Unwatch
        | Kind::TransactionEnd
        | Kind::Write
        | Kind::Mkdir
        | Kind::Rm
        | Kind::SetPerms => match payload.as_slice() {
            b"OK\0" => Ok(Answer::Done),
            _ => Err(Fault::Payload { kind, problem: "is not the acknowledgement `OK`" }),
        },
        Kind::WatchEvent | Kind::Error => Err(Fault::Payload { kind, problem: "answers nothing" }),
    }
}

/// A change at or below a watched path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) path: String,
    /// The text that was given with the watch.
    pub(super) token: String,
}

/// Reads the payload of a watch event: path and token.
///
/// # Errors
/// [`Fault::Payload`] unless it is exactly two strings.
pub(super) fn decode_event(payload: &[u8]) -> Result<Event, Fault> {
    let kind = Kind::WatchEvent;
    match split_strings(kind, payload)?.as_slice() {
        [path, token] => Ok(Event { path: (*path).to_owned(), token: (*token).to_owned() }),
        _ => Err(Fault::Payload { kind, problem: "is not a path and a token" }),
    }
}

/// Reads the payload of an error: a name such as `ENOENT`, escaped and cut to a length that can be
/// shown.
///
/// Unknown names are allowed: oxenstored sends names that are not in `xs_wire.h`.
///
/// # Errors
/// [`Fault::Payload`] when the closing NUL is missing.
pub(super) fn decode_error_name(payload: &[u8]) -> Result<String, Fault> {
    match payload.split_last() {
        Some((0, name)) => {
            let shown = name.get(..MAX_ERROR_NAME).unwrap_or(name);
            Ok(shown.escape_ascii().to_string())
        }
        _ => Err(Fault::Payload { kind: Kind::Error, problem: "has no closing NUL" }),
    }
}

fn decode_names(payload: &[u8]) -> Result<Vec<String>, Fault> {
    let kind = Kind::Directory;
    let names = split_strings(kind, payload)?;
    if names.iter().any(|name| name.is_empty()) {
        return Err(Fault::Payload { kind, problem: "has an empty name" });
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

fn decode_part(payload: &[u8]) -> Result<Part, Fault> {
    let kind = Kind::DirectoryPart;
    let strings = split_strings(kind, payload)?;
    let Some((generation, names)) = strings.split_first() else {
        return Err(Fault::Payload { kind, problem: "has no generation" });
    };
    // The last part ends with an empty name.
    let (names, last) = match names.split_last() {
        Some((&"", names)) => (names, true),
        _ => (names, false),
    };
    if names.iter().any(|name| name.is_empty()) {
        return Err(Fault::Payload { kind, problem: "has an empty name" });
    }
    if names.is_empty() && !last {
        return Err(Fault::Payload { kind, problem: "has neither a name nor an end" });
    }
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Ok(Part { generation: (*generation).to_owned(), names, last })
}

fn decode_permissions(payload: &[u8]) -> Result<Vec<Permission>, Fault> {
    let kind = Kind::GetPerms;
    let permissions = split_strings(kind, payload)?
        .into_iter()
        .map(str::parse)
        .collect::<Result<Vec<Permission>, _>>()
        .map_err(|_| Fault::Payload { kind, problem: "has a permission that is none" })?;
    if permissions.is_empty() {
        return Err(Fault::Payload { kind, problem: "names no owner" });
    }
    Ok(permissions)
}

fn decode_transaction(payload: &[u8]) -> Result<u32, Fault> {
    let kind = Kind::TransactionStart;
    match split_strings(kind, payload)?.as_slice() {
        // 0 is what requests outside of transactions carry.
        [id] => id.parse().ok().filter(|id| *id != 0),
        _ => None,
    }
    .ok_or(Fault::Payload { kind, problem: "is not a transaction id" })
}

/// Splits NUL-terminated strings. Nothing at all is no string.
fn split_strings(kind: Kind, payload: &[u8]) -> Result<Vec<&str>, Fault> {
    let Some((last, body)) = payload.split_last() else {
        return Ok(Vec::new());
    };
    if *last != 0 {
        return Err(Fault::Payload { kind, problem: "has no closing NUL" });
    }
    let text = std::str::from_utf8(body)
        .map_err(|_| Fault::Payload { kind, problem: "is not text where it must be" })?;
    Ok(text.split('\0').collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_kind() -> impl Strategy<Value = Kind> {
        proptest::sample::select(Kind::ALL.to_vec())
    }

    fn name() -> impl Strategy<Value = String> {
        "[A-Za-z0-9_@-]{1,40}"
    }

    fn joined(strings: &[String]) -> Vec<u8> {
        strings.iter().flat_map(|s| s.bytes().chain([0])).collect()
    }

    #[test]
    fn a_request_is_laid_out_as_xs_wire_says() {
        let payload = Payload::strings(&["/a"]).unwrap();
        let bytes = encode(Kind::Read, 7, 3, &payload);
        let mut expected = Vec::new();
        for field in [2_u32, 7, 3, 3] {
            expected.extend_from_slice(&field.to_ne_bytes());
        }
        expected.extend_from_slice(b"/a\0");
        assert_eq!(bytes, expected);
    }

    #[test]
    fn a_payload_of_the_limit_fits_and_one_byte_more_does_not() {
        assert!(Payload::path_and_value("/a", &[0; MAX_SENT - 3]).is_ok());
        assert_eq!(Payload::path_and_value("/a", &[0; MAX_SENT - 2]), Err(MAX_SENT + 1));
    }

    #[test]
    fn headers_that_cannot_be_right_are_faults() {
        let mut decoder = Decoder::default();
        decoder.feed(&[0xff; HEADER_LEN]);
        assert_eq!(decoder.take_message(), Err(Fault::UnknownKind { number: u32::MAX }));

        let mut header = Vec::new();
        for field in [Kind::Read as u32, 1, 0, 4097] {
            header.extend_from_slice(&field.to_ne_bytes());
        }
        let mut decoder = Decoder::default();
        decoder.feed(&header);
        let fault = Fault::TooLong { kind: Kind::Read, len: 4097, limit: 4096 };
        assert_eq!(decoder.take_message(), Err(fault));
    }

    #[test]
    fn replies_say_what_they_say() {
        let cases: [(Kind, &[u8], Answer); 8] = [
            (Kind::Read, b"a\0b", Answer::Value(b"a\0b".to_vec())),
            (Kind::Read, b"", Answer::Value(Vec::new())),
            (Kind::Directory, b"", Answer::Names(Vec::new())),
            (Kind::Directory, b"a\0b\0", Answer::Names(vec!["a".into(), "b".into()])),
            (Kind::TransactionStart, b"12\0", Answer::Transaction(12)),
            (Kind::IsDomainIntroduced, b"T\0", Answer::Flag(true)),
            (Kind::Write, b"OK\0", Answer::Done),
            (
                Kind::DirectoryPart,
                b"9\0a\0\0",
                Answer::Part(Part { generation: "9".into(), names: vec!["a".into()], last: true }),
            ),
        ];
        for (kind, payload, answer) in cases {
            assert_eq!(decode_answer(kind, payload.to_vec()), Ok(answer), "{kind:?}");
        }
    }

    #[test]
    fn malformed_payloads_are_faults() {
        let cases: [(Kind, &[u8]); 14] = [
            (Kind::Directory, b"a"),
            (Kind::Directory, b"a\0\0b\0"),
            (Kind::Directory, b"\xff\0"),
            (Kind::DirectoryPart, b""),
            (Kind::DirectoryPart, b"9\0"),
            (Kind::DirectoryPart, b"9\0\0a\0"),
            (Kind::GetPerms, b""),
            (Kind::GetPerms, b"x5\0"),
            (Kind::TransactionStart, b"0\0"),
            (Kind::TransactionStart, b"1\x002\0"),
            (Kind::IsDomainIntroduced, b"yes\0"),
            (Kind::Write, b"OK"),
            (Kind::Write, b""),
            (Kind::Error, b"EINVAL\0"),
        ];
        for (kind, payload) in cases {
            assert!(decode_answer(kind, payload.to_vec()).is_err(), "{kind:?} {payload:?}");
        }
        assert!(decode_event(b"/a\0").is_err());
        assert!(decode_event(b"/a\x001\0extra\0").is_err());
        assert!(decode_error_name(b"EINVAL").is_err());
    }

    #[test]
    fn error_names_are_escaped_and_cut() {
        assert_eq!(decode_error_name(b"ENOENT\0").unwrap(), "ENOENT");
        assert_eq!(decode_error_name(b"a\x1b[31m\0").unwrap(), "a\\x1b[31m");
        let long = [vec![b'E'; 4000], vec![0]].concat();
        assert_eq!(decode_error_name(&long).unwrap().len(), MAX_ERROR_NAME);
    }

    proptest! {
        #[test]
        fn messages_survive_the_wire_however_they_are_cut(
            messages in prop::collection::vec(
                (
                    any_kind(),
                    any::<u32>(),
                    any::<u32>(),
                    prop::collection::vec(any::<u8>(), 0..200),
                ),
                0..8,
            ),
            cut in 1_usize..50,
        ) {
            let mut stream = Vec::new();
            let mut sent = Vec::new();
            for (kind, req_id, tx_id, payload) in messages {
                stream.extend(encode(kind, req_id, tx_id, &Payload::new(payload.clone()).unwrap()));
                sent.push(Message { kind, req_id, tx_id, payload });
            }
            let mut decoder = Decoder::default();
            let mut received = Vec::new();
            for chunk in stream.chunks(cut) {
                decoder.feed(chunk);
                while let Some(message) = decoder.take_message().unwrap() {
                    received.push(message);
                }
            }
            prop_assert_eq!(received, sent);
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..16),
        ) {
            let mut decoder = Decoder::default();
            for chunk in chunks {
                decoder.feed(&chunk);
                while let Ok(Some(_)) = decoder.take_message() {}
            }
        }

        #[test]
        fn arbitrary_payloads_never_panic(
            kind in any_kind(),
            payload in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let _ = decode_event(&payload);
            let _ = decode_error_name(&payload);
            let _ = decode_answer(kind, payload);
        }

        #[test]
        fn names_round_trip(names in prop::collection::vec(name(), 0..20)) {
            let answer = decode_answer(Kind::Directory, joined(&names));
            prop_assert_eq!(answer, Ok(Answer::Names(names)));
        }

        #[test]
        fn parts_round_trip(names in prop::collection::vec(name(), 1..20), last: bool) {
            let mut payload = joined(&[vec!["17".to_owned()], names.clone()].concat());
            if last {
                payload.push(0);
            }
            let part = Part { generation: "17".into(), names, last };
            prop_assert_eq!(decode_answer(Kind::DirectoryPart, payload), Ok(Answer::Part(part)));
        }

        #[test]
        fn events_round_trip(path in name(), token in name()) {
            let event = decode_event(&joined(&[path.clone(), token.clone()]));
            prop_assert_eq!(event, Ok(Event { path, token }));
        }
    }
}
