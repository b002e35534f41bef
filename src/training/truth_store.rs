//! The truth of a store's head, measured by retraining, written as a file and resumed from what was measured before.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use super::error::TrainingError;
use super::head_store::{labelled_rows, read_labels};
use super::rows::LabelledRows;
use super::truth::{TruthPlan, TruthPosition, measure_truth};
use crate::base::Fingerprint;
use crate::engine::{LabelledTable, Snapshot, Watch};

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
    let rows = read_labels(snapshot, embedding, label)?;
    let labelled = labelled_rows(&rows)?;
    let mut features = Vec::new();
    let mut labels = Vec::new();
    for query in queries {
        let class = rows.class_of(&query.label).ok_or_else(|| TrainingError::Store {
            reason: format!("query {:?} has the label {:?}, which no row has", query.key, query.label),
        })?;
        features.extend_from_slice(&query.vector);
        labels.push(class);
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
    let keys: Vec<&String> = rows.labelled_keys().collect();
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

fn fingerprint(rows: &LabelledTable, queries: &[TruthQuery], plan: &TruthPlan) -> Fingerprint {
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
    let first = lines.next().transpose().map_err(|error| file_error(path, &error))?.unwrap_or_default();
    let own = fingerprint.to_string();
    if first.len() < own.len() && own.starts_with(&first) {
        // Stopped before the first line was whole: nothing is measured yet.
        return Ok(known);
    }
    if first != own {
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
    let json = |keys: &[&String]| serde_json::to_string(keys).map_err(|error| refuse(error.to_string()));
    let outputs: Vec<u8> = outputs.iter().flat_map(|value| value.to_le_bytes()).collect();
    let (middle, end) = (outputs.len(), outputs.len() + subsets.len());
    // In an order of its own, so that the same measurement is the same file: the library's is another one each time.
    let header = serde_json::json!({
        "__metadata__": {
            "train_keys": json(keys)?,
            "query_keys": json(query_keys)?,
            "fingerprint": fingerprint.to_string(),
        },
        "outputs": {"dtype": "F32", "shape": [count, runs, queries], "data_offsets": [0, middle]},
        "subsets": {"dtype": "U8", "shape": [count, keys.len()], "data_offsets": [middle, end]},
    });
    let mut header = header.to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let length = (header.len() as u64).to_le_bytes();
    let bytes = [length.as_slice(), &header, &outputs, subsets].concat();
    let mut temporary = out.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let written = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, out));
    written.map_err(|error| file_error(out, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> TruthPlan {
        TruthPlan { subsets: 2, runs: 2, ..TruthPlan::default() }
    }

    fn own() -> Fingerprint {
        Fingerprint::of(b"rows")
    }

    /// What is read from a file with this text behind the fingerprint.
    fn known(text: &str) -> Vec<Option<Vec<f32>>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.partial");
        fs::write(&path, format!("{}\n{text}", own())).unwrap();
        read_partial(&path, &own(), &plan(), 2).unwrap()
    }

    #[test]
    fn lines_that_are_cut_off_or_of_other_places_count_as_not_there() {
        let first = r#"{"subset":0,"run":1,"outputs":[1.5,-2.5]}"#;
        let last = r#"{"subset":1,"run":0,"outputs":[3.0,4.0]}"#;
        let both = [None, Some(vec![1.5, -2.5]), Some(vec![3.0, 4.0]), None];
        assert_eq!(known(&format!("{first}\n{last}\n")), both);
        assert_eq!(known(""), [None, None, None, None]);
        for length in 0..last.len() {
            let cut = known(&format!("{first}\n{}", &last[..length]));
            assert_eq!(cut, [None, Some(vec![1.5, -2.5]), None, None], "{length}");
            // What was measured afterwards stands on a line of its own.
            let resumed = known(&format!("{}\n{first}\n", &last[..length]));
            assert_eq!(resumed, cut, "{length}");
        }
        for other in [
            r#"{"subset":2,"run":0,"outputs":[1.0,2.0]}"#,
            r#"{"subset":0,"run":2,"outputs":[1.0,2.0]}"#,
            r#"{"subset":0,"run":0,"outputs":[1.0]}"#,
            r#"{"subset":0,"run":0,"outputs":[1.0,null]}"#,
        ] {
            assert_eq!(known(other), [None, None, None, None], "{other}");
        }
    }

    #[test]
    fn a_file_goes_on_on_a_new_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.partial");
        assert_eq!(read_partial(&path, &own(), &plan(), 1).unwrap(), [None, None, None, None]);
        let mut file = open_partial(&path, &own(), false).unwrap();
        file.write_all(b"{\"subset\":0,\"run\":0,\"outputs\":[1.0]}\n{\"subset\":1,\"ru").unwrap();
        drop(file);
        let mut file = open_partial(&path, &own(), true).unwrap();
        file.write_all(b"{\"subset\":1,\"run\":1,\"outputs\":[0.1]}\n").unwrap();
        drop(file);
        let expected = [Some(vec![1.0]), None, None, Some(vec![0.1])];
        assert_eq!(read_partial(&path, &own(), &plan(), 1).unwrap(), expected);
        // Without anything measured it begins anew.
        drop(open_partial(&path, &own(), false).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", own()));
    }

    #[test]
    fn what_was_measured_of_others_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.partial");
        fs::write(&path, format!("{}\n", Fingerprint::of(b"other rows"))).unwrap();
        let error = read_partial(&path, &own(), &plan(), 1).unwrap_err().to_string();
        assert!(error.contains("t.partial") && error.contains("remove it"), "{error}");
    }

    #[test]
    fn a_file_that_was_stopped_before_its_first_line_was_whole_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.partial");
        let whole = own().to_string();
        for length in 0..=whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let known = read_partial(&path, &own(), &plan(), 1).unwrap();
            assert_eq!(known, [None, None, None, None], "{length}");
        }
    }
}
