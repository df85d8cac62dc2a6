//! What must hold of the wire, whatever xenstored sends.

use super::wire::{
    Answer, Decoder, HEADER_LEN, Kind, Message, Payload, decode_answer, decode_error_name,
    decode_event, encode,
};

/// A stream of bytes from xenstored. The first byte says how it is cut into reads.
///
/// However it is cut, the same messages come out, up to the same fault. A message that came out goes
/// back into the same bytes. No payload is taken for an answer that it is not.
///
/// # Panics
///
/// When that does not hold.
pub fn wire(bytes: &[u8]) {
    let Some((cut, stream)) = bytes.split_first() else { return };
    let whole = messages([stream]);
    assert_eq!(whole, messages(stream.chunks(usize::from(*cut).max(1))));
    let mut taken = 0;
    for message in &whole.0 {
        let length = HEADER_LEN + message.payload.len();
        assert_eq!(encoded(message).as_deref(), stream.get(taken..taken + length));
        taken += length;
        take_apart(message);
    }
}

/// The messages in a stream, and whether it ended in a fault.
fn messages<'a>(reads: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Message>, Option<String>) {
    let mut decoder = Decoder::default();
    let mut messages = Vec::new();
    for read in reads {
        decoder.feed(read);
        loop {
            match decoder.take_message() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(fault) => return (messages, Some(fault.to_string())),
            }
        }
    }
    (messages, None)
}

/// The message as bytes; `None` for an answer that is longer than anything that is ever sent.
fn encoded(message: &Message) -> Option<Vec<u8>> {
    let Message { kind, req_id, tx_id, payload } = message;
    let mut bytes = encode(*kind, *req_id, *tx_id, &Payload::strings::<&str>(&[]).ok()?);
    let length = u32::try_from(payload.len()).ok()?;
    bytes.get_mut(12..16)?.copy_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(payload);
    Some(bytes)
}

fn take_apart(message: &Message) {
    let payload = &message.payload;
    if let Ok(event) = decode_event(payload) {
        let parts = [event.path.as_bytes(), event.token.as_bytes()];
        assert_eq!(parts.map(|part| [part, b"\0"].concat()).concat(), *payload);
    }
    if let Ok(name) = decode_error_name(payload) {
        assert!(!name.chars().any(char::is_control), "{name:?}");
    }
    let answer = decode_answer(message.kind, payload.clone());
    if let Some(names) = answer.ok().and_then(Answer::names)
        && message.kind == Kind::Directory
    {
        assert!(!names.iter().any(String::is_empty));
    }
}
