//! All that an encoder is made of, as one byte string.

use bytes::Bytes;

use super::configuration::BertConfiguration;
use super::error::BertError;
use crate::base::limits::{BERT_JSON_BYTES_MAX, SECTION_ALIGNMENT_BYTES};
use crate::base::{ByteReader, Fingerprint, FingerprintStream, put_u32, put_u64};

const MARK: &[u8; 8] = b"ASCRBERT";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 128;

/// Where the fingerprint lies; it is that of all other bytes.
const FINGERPRINT_AT: usize = 48;
const FINGERPRINT_END: usize = FINGERPRINT_AT + 32;

/// What precedes the state in what the fingerprint is taken of.
const FINGERPRINT_TAG: &[u8] = b"ascribe-encoder-1/bert/";

/// The parts of an encoder as they are stored, not yet looked into.
#[derive(Clone)]
pub(super) struct BertState {
    pub(super) configuration: BertConfiguration,
    /// A `tokenizer.json`.
    pub(super) tokenizer: Bytes,
    /// A `model.safetensors`.
    pub(super) model: Bytes,
    /// A `projector.safetensors`, if the projector has its own file.
    pub(super) projector: Option<Bytes>,
    pub(super) fingerprint: Fingerprint,
}

impl BertState {
    /// The state of these parts, their fingerprint taken.
    pub(super) fn of(
        configuration: BertConfiguration,
        tokenizer: Bytes,
        model: Bytes,
        projector: Option<Bytes>,
    ) -> Self {
        let fingerprint = Fingerprint([0; 32]);
        let mut state = Self { configuration, tokenizer, model, projector, fingerprint };
        let mut stream = FingerprintStream::new();
        stream.update(FINGERPRINT_TAG);
        for (number, piece) in state.pieces().iter().enumerate() {
            if number == 0 {
                stream.update(&piece[..FINGERPRINT_AT]);
                stream.update(&piece[FINGERPRINT_END..]);
            } else {
                stream.update(piece);
            }
        }
        state.fingerprint = stream.value();
        state
    }

    /// The bytes, in pieces to be joined; the large ones are shared, not copied.
    pub(super) fn pieces(&self) -> Vec<Bytes> {
        let configuration = self.configuration.to_json();
        let projector = self.projector.clone().unwrap_or_default();
        let mut start = Vec::with_capacity(HEADER_BYTES + configuration.len() + self.tokenizer.len() + 128);
        start.extend_from_slice(MARK);
        put_u32(&mut start, VERSION);
        put_u32(&mut start, 0);
        for length in [configuration.len(), self.tokenizer.len(), self.model.len(), projector.len()] {
            put_u64(&mut start, length as u64);
        }
        start.extend_from_slice(&self.fingerprint.0);
        start.resize(HEADER_BYTES, 0);
        for part in [configuration.as_bytes(), &self.tokenizer] {
            start.extend_from_slice(part);
            start.resize(aligned(start.len()), 0);
        }
        let mut pieces = vec![Bytes::from(start), self.model.clone()];
        if !projector.is_empty() {
            pieces.push(Bytes::from(vec![0; aligned(self.model.len()) - self.model.len()]));
            pieces.push(projector);
        }
        pieces
    }

    /// Reads what [`pieces`](Self::pieces) gave, joined. The fingerprint is taken as recorded: whoever stores the bytes
    /// guards them by checksums, and a second pass over them would cost as much as opening.
    pub(super) fn read(bytes: &Bytes) -> Result<Self, BertError> {
        let damaged = |reason: &str| BertError::State { reason: reason.to_owned() };
        let short = |_| damaged("it ends inside its header");
        let mut reader = ByteReader::new(bytes);
        if reader.take(MARK.len()).map_err(short)? != MARK {
            return Err(damaged("it does not begin with ASCRBERT"));
        }
        let version = reader.u32().map_err(short)?;
        if version != VERSION {
            let reason = format!("it has version {version}, and this build reads {VERSION}");
            return Err(BertError::State { reason });
        }
        let reserved = reader.u32().map_err(short)?;
        let mut lengths = [0; 4];
        for length in &mut lengths {
            *length =
                usize::try_from(reader.u64().map_err(short)?).map_err(|_| damaged("a part is too long"))?;
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(reader.take(32).map_err(short)?);
        let rest = reader.take(HEADER_BYTES - FINGERPRINT_END).map_err(short)?;
        if reserved != 0 || rest.iter().any(|byte| *byte != 0) {
            return Err(damaged("reserved bytes of its header are not 0"));
        }
        if lengths[..2].iter().any(|length| *length > BERT_JSON_BYTES_MAX) {
            return Err(damaged("its configuration or tokenizer is longer than any"));
        }
        let [configuration, tokenizer, model, projector] = cut(bytes, lengths)?;
        let projector = Some(projector).filter(|projector| !projector.is_empty());
        let configuration =
            BertConfiguration::from_json(&configuration, "configuration of the stored encoder")?;
        Ok(Self { configuration, tokenizer, model, projector, fingerprint: Fingerprint(fingerprint) })
    }
}

/// The parts of these lengths behind the header, each aligned, and nothing behind the last.
fn cut(bytes: &Bytes, lengths: [usize; 4]) -> Result<[Bytes; 4], BertError> {
    let damaged = |reason: &str| BertError::State { reason: reason.to_owned() };
    let mut parts = [const { Bytes::new() }; 4];
    let mut end = HEADER_BYTES;
    for (part, length) in parts.iter_mut().zip(lengths).filter(|(_, length)| *length > 0) {
        let start = aligned(end);
        let padding = bytes.get(end..start).ok_or_else(|| damaged("it is cut off"))?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(damaged("bytes between its parts are not 0"));
        }
        end = start
            .checked_add(length)
            .filter(|end| *end <= bytes.len())
            .ok_or_else(|| damaged("it is cut off"))?;
        *part = bytes.slice(start..end);
    }
    if end == bytes.len() { Ok(parts) } else { Err(damaged("bytes follow its last part")) }
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(SECTION_ALIGNMENT_BYTES as usize)
}
