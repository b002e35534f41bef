//! The state of a learned encoder.

use std::path::Path;

use ascribe::base::{Fingerprint, limits};
use ascribe::encoder::{BertEncoder, Encoder};

use crate::pages::{cut, mark, table};

#[test]
fn the_state_of_the_learned_encoder_is_as_documented() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-bert");
    let encoder = BertEncoder::from_directory(&directory).unwrap();
    let state = encoder.state().unwrap().concat();
    let header = cut("encoder-file.md", "State of `bert:<width>`", &state[..128]);
    assert_eq!(header.bytes("mark"), mark("ASCRBERT"));
    assert_eq!((header.number("version"), header.number("reserved")), (1, 0));
    assert_eq!(header.bytes("padding"), [0; 48]);

    let file = |name: &str| std::fs::read(directory.join(name)).unwrap();
    let mut end = 128_usize;
    let mut part = |field: &str| {
        let start = end.next_multiple_of(64);
        assert!(state[end..start].iter().all(|byte| *byte == 0));
        end = start + header.number(field) as usize;
        state[start..end].to_vec()
    };
    let configuration = part("configuration length");
    assert_eq!(part("tokenizer length"), file("tokenizer.json"));
    assert_eq!(part("weights length"), file("model.safetensors"));
    assert_eq!(header.number("projector length"), 0);
    assert_eq!(end, state.len());

    let rest = [&b"ascribe-encoder-1/bert/"[..], &state[..48], &state[80..]].concat();
    assert_eq!(encoder.fingerprint(), Fingerprint::of(&rest));
    assert_eq!(header.bytes("fingerprint"), encoder.fingerprint().0);
    let members = table("encoder-file.md", "Configuration of a learned encoder");
    let documented: Vec<String> =
        members.rows.iter().map(|row| members.cell(row, "member").to_owned()).collect();
    let json: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&configuration).unwrap();
    assert_eq!(json.keys().cloned().collect::<Vec<_>>(), documented);
    assert_eq!(serde_json::to_vec(&json).unwrap(), configuration);
    assert_eq!(
        (limits::BERT_HIDDEN_SIZE_MAX, limits::BERT_LAYERS_MAX, limits::BERT_INTERMEDIATE_SIZE_MAX),
        (16384, 128, 65536)
    );
    assert_eq!(
        (limits::BERT_VOCABULARY_SIZE_MAX, limits::BERT_POSITIONS_MAX, limits::BERT_POSITIONS_MIN),
        (1_048_576, 8192, 3)
    );
    assert_eq!((limits::BERT_TOKEN_TYPES_MAX, limits::BERT_JSON_BYTES_MAX), (64, 1 << 24));
}
