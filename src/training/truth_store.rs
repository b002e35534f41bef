//! The truth of a store's head, measured by retraining, written as a file and resumed from what was measured before.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::{Deserialize, Serialize};

use super::error::TrainingError;
use super::head_store::StoreRows;
use super::rows::LabelledRows;
use super::truth::{TruthPlan, TruthPosition, measure_truth};
use crate::base::Fingerprint;
use crate::engine::{Snapshot, Watch};

/// A query of a truth: an embedding with its label.
#[derive(Clone, Debug, PartialEq)]
pub struct TruthQuery {
    /// Its key.
    pub key: String,
    /// Its embedding.
    pub vector: Vec<f32>,
    /// Its label.
    pub label: String,
}

/// What a measurement did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TruthReport {
    /// Rows with labels.
    pub rows: usize,
    /// Queries.
    pub queries: usize,
    /// Subsets of half of the rows.
    pub subsets: usize,
    /// Trainings on each.
    pub runs: usize,
    /// Trainings that were measured before and taken over.
    pub resumed: usize,
    /// Fingerprint of rows, queries and plan.
    pub fingerprint: Fingerprint,
}

/// One training in the file of what is measured so far.
#[derive(Serialize, Deserialize)]
struct Measured {
    subset: usize,
    run: usize,
    outputs: Vec<f32>,
}

/// Measures what the head of the field `label` says of some queries when it is trained on random halves of a store's rows,
/// and writes it to `out` in the layout of truth files.
///
/// What is measured is kept beside `out` until all is: a measurement that was stopped goes on where it was.
///
/// # Errors
/// See [`TrainingError`]; a file cannot be read or written.
///
/// # Complexity
/// subsets x runs trainings on half of the rows, in parallel.
pub fn measure_store_truth(
    snapshot: &Snapshot,
    (embedding, label): (Option<&str>, &str),
    queries: &[TruthQuery],
    plan: &TruthPlan,
    out: &Path,
    watch: Watch<'_>,
) -> Result<TruthReport, TrainingError> {
    let rows = StoreRows::read(snapshot, embedding, label)?;
    let labelled = rows.labelled_rows()?;
    let mut features = Vec::new();
    let mut labels = Vec::new();
    for query in queries {
        let class = rows.classes.binary_search(&query.label).map_err(|_| TrainingError::Store {
            reason: format!("query {:?} has the label {:?}, which no row has", query.key, query.label),
        })?;
        features.extend_from_slice(&query.vector);
        labels.push(class as u32);
    }
    let asked = LabelledRows::new(&features, rows.width, &labels, &rows.classes)?;
    let fingerprint = fingerprint(&rows, queries, plan);
    let path = partial_path(out);
    let known = read_partial(&path, &fingerprint, plan, queries.len())?;
    let resumed = known.iter().filter(|outputs| outputs.is_some()).count();
    let partial = Mutex::new(open_partial(&path, &fingerprint, resumed > 0)?);
    let failed: Mutex<Option<std::io::Error>> = Mutex::new(None);
    let finished = |position: TruthPosition, outputs: &[f32]| {
        let measured = Measured { subset: position.subset, run: position.run, outputs: outputs.to_vec() };
        let written = serde_json::to_string(&measured).map_err(std::io::Error::from).and_then(|line| {
            let mut file = partial.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            writeln!(file, "{line}")
        });
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                *failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
                ControlFlow::Break(())
            }
        }
    };
    let measured = snapshot
        .in_pool(|| measure_truth(&labelled, &asked, plan, &known, &finished, watch.progress, watch.cancel));
    if let Some(error) = failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        return Err(file_error(&path, &error));
    }
    let truth = measured?;
    let keys = rows.keys.iter().zip(&rows.labelled).filter(|(_, number)| number.is_some());
    let keys: Vec<&String> = keys.map(|(key, _)| key).collect();
    let query_keys: Vec<&String> = queries.iter().map(|query| &query.key).collect();
    let shape = [plan.subsets, plan.runs, queries.len()];
    write_truth(out, (&truth.subsets, &truth.outputs), shape, (&keys, &query_keys), &fingerprint)?;
    // All of it stands in the file now.
    let _ = fs::remove_file(&path);
    Ok(TruthReport {
        rows: rows.labels.len(),
        queries: queries.len(),
        subsets: plan.subsets,
        runs: plan.runs,
        resumed,
        fingerprint,
    })
}

fn fingerprint(rows: &StoreRows, queries: &[TruthQuery], plan: &TruthPlan) -> Fingerprint {
    let mut stream = crate::base::FingerprintStream::new();
    let mut add = |bytes: &[u8]| {
        stream.update(&(bytes.len() as u64).to_le_bytes());
        stream.update(bytes);
    };
    add(format!("{plan:?}").as_bytes());
    rows.keys.iter().for_each(|key| add(key.as_bytes()));
    rows.classes.iter().for_each(|class| add(class.as_bytes()));
    rows.labels.iter().for_each(|label| add(&label.to_le_bytes()));
    rows.features.iter().for_each(|value| add(&value.to_le_bytes()));
    for query in queries {
        add(query.key.as_bytes());
        add(query.label.as_bytes());
        query.vector.iter().for_each(|value| add(&value.to_le_bytes()));
    }
    stream.value()
}

fn partial_path(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

fn file_error(path: &Path, error: &std::io::Error) -> TrainingError {
    TrainingError::Store { reason: format!("cannot read or write {}: {error}", path.display()) }
}

/// What was measured before, if it is of the same rows, queries and plan. A line that is cut off counts as not there.
fn read_partial(
    path: &Path,
    fingerprint: &Fingerprint,
    plan: &TruthPlan,
    queries: usize,
) -> Result<Vec<Option<Vec<f32>>>, TrainingError> {
    let mut known: Vec<Option<Vec<f32>>> = vec![None; plan.subsets.saturating_mul(plan.runs)];
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(known),
        Err(error) => return Err(file_error(path, &error)),
    };
    let mut lines = BufReader::new(file).lines();
    let first = lines.next().transpose().map_err(|error| file_error(path, &error))?;
    if first.as_deref() != Some(fingerprint.to_string().as_str()) {
        let reason = format!(
            "{} was measured of other rows, queries or settings: remove it to begin anew, or give the same again",
            path.display()
        );
        return Err(TrainingError::Store { reason });
    }
    for line in lines {
        let line = line.map_err(|error| file_error(path, &error))?;
        let Ok(measured) = serde_json::from_str::<Measured>(&line) else { continue };
        if measured.subset < plan.subsets && measured.run < plan.runs && measured.outputs.len() == queries {
            known[measured.subset * plan.runs + measured.run] = Some(measured.outputs);
        }
    }
    Ok(known)
}

fn open_partial(path: &Path, fingerprint: &Fingerprint, is_resumed: bool) -> Result<File, TrainingError> {
    let mut options = OpenOptions::new();
    options.create(true).write(true);
    let opened = if is_resumed { options.append(true).open(path) } else { options.truncate(true).open(path) };
    let mut file = opened.map_err(|error| file_error(path, &error))?;
    // After a kill the last line may be cut off: what follows begins on a new one.
    let head = if is_resumed { Ok(String::new()) } else { Ok::<_, std::io::Error>(fingerprint.to_string()) };
    head.and_then(|head| writeln!(file, "{head}")).map_err(|error| file_error(path, &error))?;
    Ok(file)
}

fn write_truth(
    out: &Path,
    (subsets, outputs): (&[u8], &[f32]),
    [count, runs, queries]: [usize; 3],
    (keys, query_keys): (&[&String], &[&String]),
    fingerprint: &Fingerprint,
) -> Result<(), TrainingError> {
    let refuse = |reason: String| TrainingError::Store { reason };
    let outputs: Vec<u8> = outputs.iter().flat_map(|value| value.to_le_bytes()).collect();
    let view = |kind, shape: Vec<usize>, data| {
        TensorView::new(kind, shape, data).map_err(|error| refuse(error.to_string()))
    };
    let tensors = [
        ("subsets", view(Dtype::U8, vec![count, keys.len()], subsets)?),
        ("outputs", view(Dtype::F32, vec![count, runs, queries], &outputs)?),
    ];
    let json = |keys: &[&String]| serde_json::to_string(keys).map_err(|error| refuse(error.to_string()));
    let metadata = [
        ("train_keys".to_owned(), json(keys)?),
        ("query_keys".to_owned(), json(query_keys)?),
        ("fingerprint".to_owned(), fingerprint.to_string()),
    ];
    let bytes = safetensors::serialize(tensors, Some(metadata.into_iter().collect()))
        .map_err(|error| refuse(error.to_string()))?;
    let mut temporary = out.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let written = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, out));
    written.map_err(|error| file_error(out, &error))
}
