//! Gradient logs of LogIX: chunks `log_rank_R_chunk_C.mmap` without a header, each described by a list of its rows in
//! `..._metadata.json`: data id, names and shapes of what was logged, where it begins, and its type.
//!
//! They are gradients of whatever loss was differentiated, of the WEIGHTS of linear maps, or of the low-rank modules that
//! LogIX adds. Its guide sums the loss over a batch; sign and scale are then this project's.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::Deserialize;
use serde_json::Value;

use super::file_names::logix::{chunk_of, metadata, values};
use super::files::{ForeignFile, refused};
use super::gradients::{GradientBytes, RowStarts};
use super::{ForeignError, ForeignFiles, ForeignGradients, ForeignModule, ForeignOrigin, ForeignTool};
use crate::sources::error::shortened;
use crate::sources::matrix::Stored;

/// The kind of log that holds gradients.
const GRADIENT: &str = "grad";

/// What LogIX calls the middle one of the three maps that it adds to a module.
const LOW_RANK_END: &str = ".logix_lora_B";

/// One row of a chunk.
#[derive(Deserialize)]
struct Entry<'a> {
    data_id: Value,
    #[serde(borrow)]
    path: Vec<Vec<Cow<'a, str>>>,
    offset: u64,
    shape: Vec<Vec<u64>>,
    block_size: u64,
    dtype: Cow<'a, str>,
}

/// What all rows have in common, and where the gradients stand behind a row's start.
struct Layout {
    path: Vec<Vec<String>>,
    shape: Vec<Vec<u64>>,
    dtype: String,
    stored: Stored,
    values: u64,
    modules: Vec<ForeignModule>,
    runs: Vec<std::ops::Range<usize>>,
}

/// What is gathered from chunk to chunk.
#[derive(Default)]
struct Rows<'a> {
    files: Vec<&'a [u8]>,
    starts: Vec<(u32, usize)>,
    keys: Vec<String>,
    layout: Option<Layout>,
}

pub(super) fn gradients<'a>(files: &ForeignFiles<'a>) -> Result<ForeignGradients<'a>, ForeignError> {
    let tool = ForeignTool::Logix;
    let mut rows = Rows::default();
    for chunk in chunks_of(files)? {
        rows.add(&files.required(&values(chunk), tool)?, &files.required(&metadata(chunk), tool)?)?;
    }
    let Rows { files: chunks, starts, keys, layout } = rows;
    let layout = layout.ok_or_else(|| refused(files.folder(), "holds no rows"))?;
    let mut seen = HashSet::new();
    if let Some(twice) = keys.iter().find(|key| !seen.insert(key.as_str())) {
        let reason = format!("the data id {:?} stands twice; log every row once", shortened(twice));
        return Err(refused(files.folder(), reason));
    }
    let low_rank = layout.modules.iter().filter(|module| module.name.ends_with(LOW_RANK_END)).count();
    let projection = if low_rank > 0 { "low-rank modules" } else { "weights" };
    let mut notes = vec![
        "taken as gradients of the loss summed over a batch, as in LogIX's guide: a loss averaged over a batch makes them smaller by its size".to_owned(),
        "its torch pickles (state/*.pt, lora/*.pt) were not opened".to_owned(),
    ];
    notes.push(if low_rank > 0 {
        "gradients are those of low-rank modules: rows and queries compare only where the same ones were used (lora/)".to_owned()
    } else {
        "gradients of biases are not among them: LogIX logs those of weights".to_owned()
    });
    Ok(ForeignGradients {
        name: files.folder().to_owned(),
        tool,
        modules: layout.modules,
        runs: vec![0],
        rows: starts.len(),
        members: vec![GradientBytes {
            files: chunks,
            stored: layout.stored,
            starts: RowStarts::Listed(starts),
            runs: layout.runs,
            factors: vec![1.0],
        }],
        origin: ForeignOrigin {
            loss: "as logged, summed".to_owned(),
            labels: "as logged".to_owned(),
            origin: format!("LogIX; gradients of {projection}"),
            scaling: None,
        },
        keys: Some(keys),
        notes,
        own: Vec::new(),
        order: None,
    })
}

/// Rank and number of all chunks, in order. A chunk that lacks one of its two files is among them.
fn chunks_of(files: &ForeignFiles<'_>) -> Result<Vec<(u32, u32)>, ForeignError> {
    let mut chunks: Vec<(u32, u32)> = files.present().filter_map(chunk_of).collect();
    chunks.sort_unstable();
    chunks.dedup();
    if chunks.is_empty() {
        return Err(files.missing(&values((0, 0)), ForeignTool::Logix));
    }
    let mut expected = (0, 0);
    for chunk in &chunks {
        if chunk.0 > expected.0 {
            expected = (chunk.0, 0);
        }
        if *chunk != expected {
            return Err(ForeignError::Missing {
                file: format!("{}/{}", files.folder(), values(expected)),
                remedy: "chunks are numbered without a gap; check whether the folder is complete".to_owned(),
            });
        }
        expected.1 += 1;
    }
    Ok(chunks)
}

impl<'a> Rows<'a> {
    /// Adds the rows of a chunk, which stand one after the other.
    fn add(&mut self, values: &ForeignFile<'a>, metadata: &ForeignFile<'a>) -> Result<(), ForeignError> {
        let entries: Vec<Entry<'_>> = metadata.json()?;
        let chunk = self.files.len() as u32;
        let mut end = 0_u128;
        for (number, entry) in entries.iter().enumerate() {
            let place = |field: &str| format!("row {}, {field}", number + 1);
            if self.layout.is_none() {
                self.layout = Some(
                    Layout::new(entry)
                        .map_err(|(field, reason)| metadata.refuse_field(&place(field), reason))?,
                );
            }
            let Some(layout) = &self.layout else { continue };
            layout.check(entry).map_err(|(field, reason)| metadata.refuse_field(&place(field), reason))?;
            if u128::from(entry.offset) != end {
                let reason = format!("is {}, the row before ends at {end}", entry.offset);
                return Err(metadata.refuse_field(&place("\"offset\""), reason));
            }
            end += u128::from(layout.values) * layout.stored.size_bytes() as u128;
            self.keys.push(key_of(&entry.data_id).ok_or_else(|| {
                metadata.refuse_field(&place("\"data_id\""), "is neither a text nor a whole number")
            })?);
            // Whether it is inside the file is checked below, before anybody reads there.
            self.starts.push((chunk, usize::try_from(entry.offset).unwrap_or(usize::MAX)));
        }
        values.check_length(end, &metadata.name)?;
        self.files.push(values.bytes);
        Ok(())
    }
}

type Reason = (&'static str, String);

impl Layout {
    fn new(entry: &Entry<'_>) -> Result<Self, Reason> {
        let stored = match entry.dtype.as_ref() {
            "float32" => Stored::F32,
            "float16" => Stored::F16,
            "float64" => Stored::F64,
            other => {
                let reason = format!("is {:?}; float32, float16 and float64 are read", shortened(other));
                return Err(("\"dtype\"", reason));
            }
        };
        if entry.path.len() != entry.shape.len() {
            let reason = format!("has {} shapes for {} paths", entry.shape.len(), entry.path.len());
            return Err(("\"shape\"", reason));
        }
        let (mut modules, mut runs, mut values) = (Vec::new(), Vec::new(), 0_u64);
        for (path, shape) in entry.path.iter().zip(&entry.shape) {
            let wrong = || ("\"shape\"", format!("holds {shape:?}, which is no shape of a gradient"));
            let (out, input) = sides_of(shape).ok_or_else(wrong)?;
            let start = values;
            values = values.checked_add(u64::from(out) * u64::from(input)).ok_or_else(wrong)?;
            let Some((kind, module)) = path.split_last() else { continue };
            if kind != GRADIENT {
                continue;
            }
            let place = |value: u64| {
                usize::try_from(value).ok().and_then(|value| value.checked_mul(stored.size_bytes()))
            };
            runs.push(place(start).ok_or_else(wrong)?..place(values).ok_or_else(wrong)?);
            modules.push(ForeignModule { name: module.join("."), out, input });
        }
        if modules.is_empty() {
            return Err(("\"path\"", "names no gradients: log with \"grad\": [\"log\"]".to_owned()));
        }
        let path = entry.path.iter().map(|path| path.iter().map(|part| part.to_string()).collect());
        let (path, shape, dtype) = (path.collect(), entry.shape.clone(), entry.dtype.to_string());
        Ok(Self { path, shape, dtype, stored, values, modules, runs })
    }

    /// Refuses a row that differs from the first, by its field.
    fn check(&self, entry: &Entry<'_>) -> Result<(), Reason> {
        let differs = |field| {
            Err((field, "differs from that of the first row; log all rows with the same modules".to_owned()))
        };
        if entry.path != self.path {
            differs("\"path\"")
        } else if entry.shape != self.shape {
            differs("\"shape\"")
        } else if entry.dtype != self.dtype {
            differs("\"dtype\"")
        } else if entry.block_size != self.values {
            Err((
                "\"block_size\"",
                format!("is {}, its shapes have {} values", entry.block_size, self.values),
            ))
        } else {
            Ok(())
        }
    }
}

/// The sides of a gradient as a matrix: everything behind the first size is one side, as of the kernel of a convolution.
fn sides_of(shape: &[u64]) -> Option<(u32, u32)> {
    let (out, rest) = shape.split_first()?;
    let input = rest.iter().try_fold(1_u64, |product, size| product.checked_mul(*size))?;
    let (out, input) = (u32::try_from(*out).ok()?, u32::try_from(input).ok()?);
    (out > 0 && input > 0).then_some((out, input))
}

fn key_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        _ => None,
    }
}
