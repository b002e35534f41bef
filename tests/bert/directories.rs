//! The small model, copies that tests change, reference tensors.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use tempfile::TempDir;

/// The model of two layers that `tools/reference/tiny_bert.py` makes.
pub(crate) fn tiny() -> PathBuf {
    fixtures().join("tiny-bert")
}

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A copy of the small model that a test may change.
pub(crate) fn copy_of_tiny() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy(&tiny(), folder.path());
    folder
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if entry.file_name() != "reference.safetensors" {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The texts of a fixture.
pub(crate) fn texts(folder: &Path) -> Vec<String> {
    serde_json::from_slice(&fs::read(folder.join("texts.json")).unwrap()).unwrap()
}

/// Tensors by name, whole numbers among them as f32 too.
pub(crate) fn reference(folder: &Path) -> BTreeMap<String, Vec<f32>> {
    let bytes = fs::read(folder.join("reference.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let read = |dtype: Dtype, data: &[u8]| match dtype {
        Dtype::F32 => data.chunks(4).map(|value| f32::from_le_bytes(value.try_into().unwrap())).collect(),
        Dtype::I32 => {
            data.chunks(4).map(|value| i32::from_le_bytes(value.try_into().unwrap()) as f32).collect()
        }
        Dtype::I16 => {
            data.chunks(2).map(|value| f32::from(i16::from_le_bytes(value.try_into().unwrap()))).collect()
        }
        other => panic!("{other:?}"),
    };
    tensors.iter().map(|(name, tensor)| (name.to_owned(), read(tensor.dtype(), tensor.data()))).collect()
}

/// The tokens of each text, from those of all and their counts.
pub(crate) fn cut(tokens: &[f32], counts: &[f32]) -> Vec<Vec<u32>> {
    let mut rest = tokens;
    let mut take = |count: &f32| {
        let (text, behind) = rest.split_at(*count as usize);
        rest = behind;
        text.iter().map(|token| *token as u32).collect()
    };
    let cut = counts.iter().map(&mut take).collect();
    assert!(rest.is_empty());
    cut
}

pub(crate) fn cosine(left: &[f32], right: &[f32]) -> f64 {
    let dot = |left: &[f32], right: &[f32]| -> f64 {
        left.iter().zip(right).map(|(left, right)| f64::from(*left) * f64::from(*right)).sum()
    };
    dot(left, right) / (dot(left, left) * dot(right, right)).sqrt()
}
