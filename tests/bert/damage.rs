//! Directories and states with something wrong in them: refused with what it is, never a panic.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ascribe::encoder::{BertEncoder, BertError, Device, Encoder};
use bytes::Bytes;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

use crate::directories::copy_of_tiny;

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn open(folder: &Path) -> Result<BertEncoder, BertError> {
    BertEncoder::from_directory(folder)
}

fn refusal(folder: &Path) -> String {
    open(folder).unwrap_err().to_string()
}

fn tensors(folder: &Path) -> Tensors {
    let bytes = fs::read(folder.join("model.safetensors")).unwrap();
    let read = SafeTensors::deserialize(&bytes).unwrap();
    let copied = |tensor: TensorView<'_>| (tensor.dtype(), tensor.shape().to_vec(), tensor.data().to_vec());
    read.iter().map(|(name, tensor)| (name.to_owned(), copied(tensor))).collect()
}

fn write(folder: &Path, file: &str, tensors: &Tensors) {
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    fs::write(folder.join(file), safetensors::serialize(views, None).unwrap()).unwrap();
}

fn change_json(folder: &Path, file: &str, change: impl FnOnce(&mut Value)) {
    let path = folder.join(file);
    let mut value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

fn fingerprint(folder: &Path) -> ascribe::base::Fingerprint {
    open(folder).unwrap().fingerprint()
}

fn vector(folder: &Path, text: &str) -> Vec<f32> {
    let encoder = open(folder).unwrap();
    let mut vector = vec![0.0; encoder.width()];
    encoder.encode(&[text], &mut vector).unwrap();
    vector
}

#[test]
fn each_tensor_that_is_missing_misshapen_or_not_finite_is_named() {
    let folder = copy_of_tiny();
    let whole = tensors(folder.path());
    assert_eq!(whole.len(), 39);
    for name in whole.keys() {
        let mut changed = whole.clone();
        changed.remove(name);
        write(folder.path(), "model.safetensors", &changed);
        // A model without projector is another, whole model.
        if name != "projector.weight" {
            let message = refusal(folder.path());
            assert!(message.contains(&format!("has no tensor \"{name}\"")), "{message}");
        }

        let mut changed = whole.clone();
        let (_, shape, _) = changed.get_mut(name).unwrap();
        shape.insert(0, 1);
        write(folder.path(), "model.safetensors", &changed);
        let message = refusal(folder.path());
        assert!(message.contains(name.as_str()), "{message}");

        for (value, at) in [(f32::NAN, 0), (f32::INFINITY, 1), (f32::NEG_INFINITY, 31)] {
            let mut changed = whole.clone();
            let (_, _, data) = changed.get_mut(name).unwrap();
            data[4 * at..4 * at + 4].copy_from_slice(&value.to_le_bytes());
            write(folder.path(), "model.safetensors", &changed);
            let message = refusal(folder.path());
            let expected = format!("tensor \"{name}\": value {at} is not finite");
            assert!(message.contains(&expected), "{message}");
        }

        let mut changed = whole.clone();
        changed.get_mut(name).unwrap().0 = Dtype::I32;
        write(folder.path(), "model.safetensors", &changed);
        let message = refusal(folder.path());
        assert!(message.contains(name.as_str()) && message.contains("type I32, expected F32"), "{message}");
    }
}

#[test]
fn weights_that_are_cut_off_added_to_or_of_another_model_are_refused() {
    let folder = copy_of_tiny();
    let path = folder.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    let header = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let lengths =
        (0..whole.len()).filter(|length| *length < 64 || length % 997 == 0 || *length > whole.len() - 4);
    for length in lengths.chain([header + 7, header + 8]) {
        fs::write(&path, &whole[..length]).unwrap();
        let message = refusal(folder.path());
        assert!(message.contains("model.safetensors"), "{length}: {message}");
    }
    fs::write(&path, [whole.as_slice(), &[0]].concat()).unwrap();
    assert!(refusal(folder.path()).contains("is no whole safetensors file"));
    // The header's length, and offsets that would overflow.
    for length in [0, 1, header as u64 - 1, header as u64 + 1, 1 << 40, u64::MAX] {
        let mut changed = whole.clone();
        changed[..8].copy_from_slice(&length.to_le_bytes());
        fs::write(&path, changed).unwrap();
        assert!(refusal(folder.path()).contains("model.safetensors"), "{length}");
    }
    let text = String::from_utf8(whole[8..8 + header].to_vec()).unwrap();
    let name = "embeddings.word_embeddings.weight";
    for (entry, reason) in [
        (json!({"dtype": "F32", "shape": [u64::MAX, u64::MAX], "data_offsets": [0, 0]}), "shape"),
        (json!({"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}), "shape"),
        (json!({"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}), "F99"),
        (json!({"dtype": "F32", "shape": [1], "data_offsets": [0, u64::MAX]}), "end at byte"),
        (json!({"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}), "-1"),
    ] {
        let mut value: Value = serde_json::from_str(&text).unwrap();
        value[name] = entry;
        let header = value.to_string();
        let bytes =
            [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &whole[8 + text.len()..]].concat();
        fs::write(&path, bytes).unwrap();
        let message = refusal(folder.path());
        assert!(message.contains(reason), "{message}");
    }
    let twice = text.replacen("embeddings.LayerNorm.bias", name, 1);
    let bytes = [&(twice.len() as u64).to_le_bytes(), twice.as_bytes(), &whole[8 + text.len()..]].concat();
    fs::write(&path, bytes).unwrap();
    assert!(refusal(folder.path()).contains("stands there twice"));
}

#[test]
fn flipped_bytes_of_the_header_give_an_error_or_a_whole_model() {
    let folder = copy_of_tiny();
    let path = folder.path().join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut refused = 0;
    for at in 0..8 + header {
        // Each bit in turn, over the bytes.
        let flip = 1 << (at % 8);
        bytes[at] ^= flip;
        fs::write(&path, &bytes).unwrap();
        refused += usize::from(open(folder.path()).is_err());
        bytes[at] ^= flip;
    }
    assert!(refused * 10 > header * 8, "{refused} of {header}");
}

#[test]
fn other_names_and_types_of_the_same_weights_are_read() {
    let folder = copy_of_tiny();
    let whole = tensors(folder.path());
    let expected = vector(folder.path(), "a red house");
    let mut renamed: Tensors = whole
        .iter()
        .map(|(name, tensor)| {
            let prefix = if name.starts_with("projector") { "" } else { "bert." };
            let old = name
                .replace("LayerNorm.weight", "LayerNorm.gamma")
                .replace("LayerNorm.bias", "LayerNorm.beta");
            (format!("{prefix}{old}"), tensor.clone())
        })
        .collect();
    renamed.insert("bert.embeddings.position_ids".to_owned(), (Dtype::I64, vec![1, 1], vec![0; 8]));
    renamed
        .insert("bert.pooler.dense.bias".to_owned(), (Dtype::F32, vec![1], f32::NAN.to_le_bytes().to_vec()));
    write(folder.path(), "model.safetensors", &renamed);
    assert_eq!(vector(folder.path(), "a red house"), expected);

    // The projector in a file of its own.
    let (projector, rest): (Tensors, Tensors) =
        whole.clone().into_iter().partition(|(name, _)| name.starts_with("projector"));
    write(folder.path(), "model.safetensors", &rest);
    assert_ne!(vector(folder.path(), "a red house"), expected, "without projector");
    write(folder.path(), "projector.safetensors", &projector);
    assert_eq!(vector(folder.path(), "a red house"), expected);
    let state = Bytes::from(open(folder.path()).unwrap().state().unwrap().concat());
    let read = BertEncoder::from_state(state, Device::Cpu).unwrap();
    let mut found = vec![0.0; read.width()];
    read.encode(&["a red house"], &mut found).unwrap();
    assert_eq!(found, expected);
    write(folder.path(), "model.safetensors", &whole);
    assert!(refusal(folder.path()).contains("has another"));
    write(folder.path(), "projector.safetensors", &rest);
    write(folder.path(), "model.safetensors", &rest);
    assert!(refusal(folder.path()).contains("projector.safetensors has no tensor \"projector.weight\""));
    fs::remove_file(folder.path().join("projector.safetensors")).unwrap();

    // bf16 is the upper half of f32.
    let mut short = whole;
    for (dtype, _, data) in short.values_mut() {
        *dtype = Dtype::BF16;
        *data = data.chunks(4).flat_map(|value| [value[2], value[3]]).collect();
    }
    write(folder.path(), "model.safetensors", &short);
    let found = vector(folder.path(), "a red house");
    let off = found.iter().zip(&expected).fold(0.0_f32, |off, (left, right)| off.max((left - right).abs()));
    assert!(off > 0.0 && off < 0.2, "{off}");
}

#[test]
fn files_that_are_missing_or_disagree_are_named() {
    for file in ["config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json"] {
        let folder = copy_of_tiny();
        fs::remove_file(folder.path().join(file)).unwrap();
        let message = refusal(folder.path());
        assert!(message.contains(file), "{message}");
    }
    assert!(refusal(Path::new("/no/such/directory")).contains("config.json"));
    let folder = copy_of_tiny();
    let with_all = fingerprint(folder.path());
    for file in ["vocab.txt", "modules.json"] {
        fs::remove_file(folder.path().join(file)).unwrap();
        open(folder.path()).unwrap();
    }
    // Without modules.json there is no limit but the positions.
    assert_eq!(open(folder.path()).unwrap().configuration().tokens_max, 48);
    assert_ne!(fingerprint(folder.path()), with_all);

    let folder = copy_of_tiny();
    for (value, limit) in [(json!(1000), 48), (json!(7), 7), (Value::Null, 48)] {
        change_json(folder.path(), "sentence_bert_config.json", |json| json["max_seq_length"] = value);
        let encoder = open(folder.path()).unwrap();
        assert_eq!(encoder.configuration().tokens_max, limit);
        let tokens = encoder.prepare(&"red ".repeat(100)).unwrap();
        assert_eq!(tokens.as_tokens().unwrap().len(), limit);
    }
    for (field, value) in
        [("hidden_size", json!(64)), ("vocab_size", json!(95)), ("max_position_embeddings", json!(47))]
    {
        let folder = copy_of_tiny();
        change_json(folder.path(), "config.json", |json| json[field] = value);
        open(folder.path()).unwrap_err();
    }
}

#[test]
fn a_tokenizer_of_another_vocabulary_is_refused() {
    let vocabulary = |json: &mut Value, change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
        change(json["model"]["vocab"].as_object_mut().unwrap());
    };
    let changes: [(&dyn Fn(&mut Value), &str); 16] = [
        (
            &|json| vocabulary(json, &|words| drop(words.insert("zebra".into(), json!(words.len())))),
            "another model",
        ),
        (&|json| vocabulary(json, &|words| drop(words.insert("red".into(), json!(6)))), "so has another"),
        (
            &|json| vocabulary(json, &|words| drop(words.insert("red".into(), json!(u64::MAX)))),
            "another model",
        ),
        (&|json| vocabulary(json, &|words| drop(words.insert("red".into(), json!(-1)))), "another model"),
        (&|json| vocabulary(json, &|words| drop(words.insert("red".into(), json!("7")))), "another model"),
        (&|json| vocabulary(json, &|words| drop(words.remove("[UNK]"))), "[UNK]"),
        (&|json| vocabulary(json, &|words| drop(words.remove("[CLS]"))), "[CLS]"),
        (&|json| json["model"]["vocab"] = json!(["a"]), "model.vocab"),
        (&|json| json["model"]["max_input_chars_per_word"] = json!(1_000_000), "max_input_chars_per_word"),
        (&|json| json["model"]["type"] = json!("BPE"), "the type of model"),
        (&|json| json["normalizer"] = json!({"type": "Replace"}), "the type of normalizer"),
        (&|json| json["pre_tokenizer"] = Value::Null, "the type of pre_tokenizer"),
        (&|json| json["post_processor"] = Value::Null, "the type of post_processor"),
        (&|json| json["added_tokens"][0]["id"] = json!(5000), "added token"),
        (&|json| json["added_tokens"][0]["id"] = json!(7), "added token"),
        (&|json| json["added_tokens"][0]["content"] = json!(""), "added token"),
    ];
    for (number, (change, reason)) in changes.into_iter().enumerate() {
        let folder = copy_of_tiny();
        change_json(folder.path(), "tokenizer.json", change);
        let message = refusal(folder.path());
        assert!(message.contains("tokenizer.json") && message.contains(reason), "{number}: {message}");
    }
    // The way of putting the ends around a text.
    for single in [
        json!([{"Sequence": {"id": "A", "type_id": 0}}]),
        json!([{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}]),
        json!([{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 1}},
            {"SpecialToken": {"id": "[SEP]", "type_id": 0}}]),
    ] {
        let folder = copy_of_tiny();
        change_json(folder.path(), "tokenizer.json", |json| json["post_processor"]["single"] = single);
        assert!(refusal(folder.path()).contains("tokenizer.json"));
    }
    // A list of words beside it.
    let folder = copy_of_tiny();
    let words = fs::read_to_string(folder.path().join("vocab.txt")).unwrap();
    for changed in
        [words.replace("red\n", "blue\n"), words.clone() + "zebra\n", words.replacen("the\n", "", 1)]
    {
        fs::write(folder.path().join("vocab.txt"), changed).unwrap();
        let message = refusal(folder.path());
        assert!(message.contains("vocab.txt") && message.contains("another vocabulary"), "{message}");
    }
    fs::write(folder.path().join("vocab.txt"), words.replace('\n', "\r\n")).unwrap();
    open(folder.path()).unwrap();
}

#[test]
fn padding_and_truncation_of_the_tokenizer_do_not_matter() {
    let folder = copy_of_tiny();
    let text = "the red house by the blue water ".repeat(9);
    let expected = vector(folder.path(), &text);
    change_json(folder.path(), "tokenizer.json", |json| {
        json["truncation"] = json!({"max_length": 5, "strategy": "LongestFirst", "stride": 0});
        json["padding"] = json!({"strategy": {"Fixed": 128}, "direction": "Left", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"});
        json["decoder"] = json!({"type": "NoSuchDecoder"});
    });
    assert_eq!(vector(folder.path(), &text), expected);
    let tokens = open(folder.path()).unwrap().prepare("").unwrap();
    assert_eq!(tokens.as_tokens().unwrap().len(), 2);
}

#[test]
fn a_tokenizer_that_is_cut_off_or_changed_gives_an_error_or_works() {
    let folder = copy_of_tiny();
    let path = folder.path().join("tokenizer.json");
    let mut bytes = fs::read(&path).unwrap();
    for length in 0..bytes.len() {
        fs::write(&path, &bytes[..length]).unwrap();
        assert!(refusal(folder.path()).contains("tokenizer.json"), "{length}");
    }
    fs::remove_file(folder.path().join("vocab.txt")).unwrap();
    for at in 0..bytes.len() {
        for flip in [1, 2, 16] {
            bytes[at] ^= flip;
            fs::write(&path, &bytes).unwrap();
            if let Ok(encoder) = open(folder.path()) {
                let mut vector = vec![0.0; encoder.width()];
                // Words may be unknown to a vocabulary that was changed; nothing worse.
                let _ = encoder.encode(&["The [CLS] réd, houses\u{0} [MASK] 99 字"], &mut vector);
            }
            bytes[at] ^= flip;
        }
    }
}

#[test]
fn a_state_that_is_damaged_gives_an_error_and_never_a_panic() {
    let folder = copy_of_tiny();
    let encoder = open(folder.path()).unwrap();
    let state = encoder.state().unwrap().concat();
    let read = |bytes: Vec<u8>| BertEncoder::from_state(Bytes::from(bytes), Device::Cpu);
    assert_eq!(read(state.clone()).unwrap().fingerprint(), encoder.fingerprint());
    for length in (0..state.len()).filter(|length| *length < 600 || length % 1009 == 0) {
        assert!(read(state[..length].to_vec()).is_err(), "{length}");
    }
    assert!(read([state.as_slice(), &[0]].concat()).is_err());
    let fingerprint = 48..80;
    for at in 0..512 {
        for flip in [0x01, 0x80, 0xFF] {
            let mut changed = state.clone();
            changed[at] ^= flip;
            match read(changed) {
                Err(_) => assert!(!fingerprint.contains(&at), "{at}"),
                Ok(read) if fingerprint.contains(&at) => {
                    assert_ne!(read.fingerprint(), encoder.fingerprint())
                }
                Ok(read) => assert_ne!(read.state(), encoder.state(), "{at}"),
            }
        }
    }
}

#[test]
fn prepared_texts_of_another_encoder_are_refused() {
    use ascribe::encoder::{EncodeError, PreparedText};
    let folder = copy_of_tiny();
    let encoder = open(folder.path()).unwrap();
    let mut out = vec![0.0; encoder.width()];
    for tokens in [vec![], vec![2; 25], vec![2, 1_000_000, 3]] {
        let error = encoder.encode_prepared(&[PreparedText::tokens(tokens)], &mut out).unwrap_err();
        assert!(matches!(error, EncodeError::PreparedElsewhere { .. }), "{error}");
    }
    let error = encoder.encode_prepared(&[PreparedText::text("red")], &mut out).unwrap_err();
    assert!(matches!(error, EncodeError::PreparedElsewhere { .. }), "{error}");
    let error = encoder.encode(&["a", "b"], &mut out).unwrap_err();
    assert!(matches!(error, EncodeError::OutputLength { texts: 2, needed: 64, .. }), "{error}");
    encoder.encode(&[], &mut []).unwrap();
}

#[test]
fn a_gpu_that_is_not_there_is_an_error() {
    let folder = copy_of_tiny();
    let state = Bytes::from(open(folder.path()).unwrap().state().unwrap().concat());
    let message = match BertEncoder::from_state(state, Device::Cuda(63)) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("a machine with 64 GPUs"),
    };
    assert!(message.starts_with("device cuda:63 "), "{message}");
    if cfg!(not(feature = "cuda")) {
        assert!(message.contains("--features cuda"), "{message}");
    }
}
