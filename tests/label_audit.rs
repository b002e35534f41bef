//! The label audit on stores in memory: rows with a wrong label come first, with a head and without.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::BTreeSet;
use std::io::Cursor;
use std::sync::Arc;

use ascribe::base::{Cancel, FieldDeclaration, FieldType, RandomStream};
use ascribe::encoder::EncoderSpecification;
use ascribe::engine::{
    ColumnDefinition, CreateOptions, DeleteSelection, Import, OnDuplicate, OpenOptions, Store, Watch,
};
use ascribe::monitor::{
    AuditKernel, LabelAudit, LabelAuditError, LabelAuditOptions, TrainingSignal, audit_labels,
};
use ascribe::sources::{FieldNames, InputFormat, Matrix, from_reader};
use ascribe::stats::normal_scores;
use ascribe::storage::SimulatedStorage;

const WIDTH: usize = 6;
const CLASSES: [&str; 3] = ["cat", "dog", "owl"];
/// Rows of each segment.
const ROWS: [usize; 2] = [90, 60];

/// Whether row `row` of a segment has the label of the next class in place of its own.
fn is_flipped(row: usize) -> bool {
    row % 11 == 5
}

fn is_unlabelled(row: usize) -> bool {
    row % 30 == 29
}

/// Imports rows around the corner of their class, of which some are flipped and some have no label.
fn import(store: &mut Store, segment: usize, rows: usize) {
    let mut stream = RandomStream::new(segment as u64);
    let (mut keys, mut values) = (String::new(), Vec::new());
    for row in 0..rows {
        let class = row % CLASSES.len();
        let label = CLASSES[(class + usize::from(is_flipped(row))) % CLASSES.len()];
        let label = if is_unlabelled(row) { String::new() } else { format!(",\"kind\":\"{label}\"") };
        keys += &format!("{{\"key\":\"{segment}-{row}\",\"true\":\"{}\"{label}}}\n", CLASSES[class]);
        for place in 0..WIDTH {
            let centre = if place % CLASSES.len() == class { 1.0 } else { 0.0 };
            values.push(centre + (stream.unit() as f32 - 0.5) * 0.9);
        }
    }
    let mut keys =
        from_reader(Cursor::new(keys), "keys", InputFormat::JsonLines, &FieldNames::of_keys_file()).unwrap();
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {WIDTH}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    let import = Import {
        keys: keys.as_mut(),
        metadata: None,
        embeddings: Some(Matrix::from_npy(&bytes, "vectors.npy").unwrap()),
        sketches: None,
        column: Some("embedding".to_owned()),
        on_duplicate: OnDuplicate::Error,
    };
    store.import(import, Watch::silent(&Cancel::new())).unwrap();
}

fn empty() -> Store {
    let specification = EncoderSpecification::Vectors { width: WIDTH };
    let create = CreateOptions {
        columns: vec![ColumnDefinition {
            name: "embedding".to_owned(),
            ..ColumnDefinition::embedding(specification)
        }],
        fields: vec![FieldDeclaration { name: "kind".to_owned(), kind: FieldType::Text }],
    };
    let options = OpenOptions { compact: false, ..OpenOptions::default() };
    Store::create(Arc::new(SimulatedStorage::new()), create, options).unwrap()
}

/// A store of two segments, of which two rows are deleted: one of them flipped.
fn filled() -> Store {
    let mut store = empty();
    ROWS.into_iter().enumerate().for_each(|(segment, rows)| import(&mut store, segment, rows));
    store.delete(&DeleteSelection::Keys(vec!["0-0".to_owned(), "0-5".to_owned()])).unwrap();
    store
}

fn audit(store: &Store, label: &str) -> Result<LabelAudit, LabelAuditError> {
    let options = LabelAuditOptions { label: label.to_owned(), column: None };
    audit_labels(&store.snapshot(), &options, Watch::silent(&Cancel::new()))
}

/// Keys of the live rows with a wrong label.
fn flipped() -> BTreeSet<String> {
    let rows =
        ROWS.into_iter().enumerate().flat_map(|(segment, rows)| (0..rows).map(move |row| (segment, row)));
    rows.filter(|(_, row)| is_flipped(*row) && !is_unlabelled(*row))
        .map(|(segment, row)| format!("{segment}-{row}"))
        .filter(|key| key != "0-5")
        .collect()
}

/// Fails unless the rows with a wrong label come first, each with its true label as suggestion.
fn assert_finds_the_flipped(audit: &LabelAudit) {
    let expected = flipped();
    assert!(expected.len() > 8);
    let first: BTreeSet<String> = audit.rows.iter().take(expected.len()).map(|row| row.key.clone()).collect();
    assert_eq!(first, expected);
    for row in audit.rows.iter().take(expected.len()) {
        let number: usize = row.key[2..].parse().unwrap();
        assert_eq!(row.suggested, CLASSES[number % CLASSES.len()], "{row:?}");
        assert_ne!(row.suggested, row.label);
    }
    assert!(audit.rows.windows(2).all(|rows| rows[0].score >= rows[1].score));
    let unlabelled = ROWS.into_iter().flat_map(|rows| 0..rows).filter(|row| is_unlabelled(*row)).count();
    assert_eq!((audit.unlabelled, audit.classes), (unlabelled, 3));
    assert_eq!(audit.rows.len() + unlabelled, ROWS.iter().sum::<usize>() - 2);
}

/// Fails unless scores are the sums of the normal scores of the parts.
fn assert_adds_up(audit: &LabelAudit) {
    let mut sums = vec![0.0; audit.rows.len()];
    let training: Option<Vec<f64>> = audit.rows.iter().map(|row| row.training).collect();
    let ridge: Option<Vec<f64>> = audit.rows.iter().map(|row| row.ridge).collect();
    let neighbours: Vec<f64> = audit.rows.iter().map(|row| row.neighbours).collect();
    for part in [training, ridge, Some(neighbours)].into_iter().flatten() {
        let normal = normal_scores(&part).unwrap();
        sums.iter_mut().zip(normal).for_each(|(sum, score)| *sum += score);
    }
    for (row, sum) in audit.rows.iter().zip(sums) {
        assert!((row.score - sum).abs() < 1e-9, "{row:?} {sum}");
    }
}

#[test]
fn wrong_labels_come_first_by_embeddings_alone() {
    let audit = audit(&filled(), "kind").unwrap();
    assert_finds_the_flipped(&audit);
    assert_adds_up(&audit);
    assert_eq!((audit.kernel, audit.training), (AuditKernel::Cosine, TrainingSignal::None));
    assert!(audit.rows.iter().all(|row| row.training.is_none() && row.ridge.is_some()));
    assert!(audit.notes.len() == 1 && audit.notes[0].contains("train-head"), "{:?}", audit.notes);
    let mut places: Vec<usize> = audit.rows.iter().map(|row| row.place).collect();
    places.sort_unstable();
    assert!(places.into_iter().eq(0..audit.rows.len()));
}

#[test]
fn labels_that_cannot_be_audited_are_refused() {
    let store = filled();
    let error = audit(&store, "none").unwrap_err();
    assert!(matches!(error, LabelAuditError::NoLabels { rows: 148, .. }), "{error}");
    assert!(error.to_string().contains("\"none\"") && error.to_string().contains("kind"), "{error}");
    let mut one = empty();
    import(&mut one, 0, 1);
    let error = audit(&one, "kind").unwrap_err();
    assert!(matches!(&error, LabelAuditError::OneLabel { only, rows: 1, .. } if only == "cat"), "{error}");
    let options = LabelAuditOptions { label: "kind".to_owned(), column: Some("sketch".to_owned()) };
    let error = audit_labels(&store.snapshot(), &options, Watch::silent(&Cancel::new())).unwrap_err();
    assert!(matches!(error, LabelAuditError::Gradients(_)), "{error}");
    let cancelled = Cancel::new();
    cancelled.cancel();
    let options = LabelAuditOptions { label: "kind".to_owned(), column: None };
    assert!(audit_labels(&store.snapshot(), &options, Watch::silent(&cancelled)).is_err());
}

#[test]
fn too_many_rows_for_a_fit_are_audited_without_it() {
    let mut store = empty();
    import(&mut store, 0, 4200);
    let audit = audit(&store, "kind").unwrap();
    assert_eq!((audit.kernel, audit.rows.len()), (AuditKernel::None, 4060));
    assert!(audit.rows.iter().all(|row| row.ridge.is_none()));
    assert!(audit.notes.iter().any(|note| note.contains("4060 rows are too many")), "{:?}", audit.notes);
    assert_adds_up(&audit);
    // Nearest rows say another label too.
    let row = &audit.rows[0];
    let number: usize = row.key[2..].parse().unwrap();
    assert!(is_flipped(number) && row.suggested == CLASSES[number % CLASSES.len()], "{row:?}");
}

#[cfg(feature = "bert")]
mod with_a_head {
    use ascribe::encoder::HeadConfiguration;
    use ascribe::training::{HeadPlan, MemberPlan, train_store_head};

    use super::*;

    fn train(store: &mut Store) {
        let configuration = HeadConfiguration { hidden: Some(8), epochs: 6, ..HeadConfiguration::default() };
        let members = MemberPlan { runs: 2, seed: 1, configuration };
        let plan = HeadPlan { members, ..HeadPlan::of_label("kind") };
        train_store_head(store, &plan, Watch::silent(&Cancel::new())).unwrap();
    }

    #[test]
    fn wrong_labels_come_first_by_a_head() {
        let mut store = filled();
        train(&mut store);
        let audit = audit(&store, "kind").unwrap();
        assert_finds_the_flipped(&audit);
        assert_adds_up(&audit);
        assert_eq!((audit.kernel, audit.training), (AuditKernel::Jacobian, TrainingSignal::Logged));
        assert_eq!(audit.notes, [""; 0]);
        let wrong: Vec<f64> =
            audit.rows.iter().take(flipped().len()).filter_map(|row| row.training).collect();
        assert!(wrong.len() == flipped().len() && wrong.iter().all(|value| *value > 0.5), "{wrong:?}");
        // The kernel of the head is another than that of the embeddings.
        let by_embeddings = super::audit(&filled(), "kind").unwrap();
        assert!(by_embeddings.rows.iter().all(|other| audit.rows.iter().all(|row| row.ridge != other.ridge)));
    }

    #[test]
    fn rows_that_came_after_the_training_stand_in_the_middle_of_its_part() {
        let mut store = filled();
        train(&mut store);
        import(&mut store, 7, 22);
        let audit = audit(&store, "kind").unwrap();
        assert!(audit.rows.iter().all(|row| row.training.is_none() == row.key.starts_with('7')));
        assert!(audit.notes.iter().any(|note| note.contains("22 rows")), "{:?}", audit.notes);
        let wrong: BTreeSet<&str> = audit.rows.iter().take(14).map(|row| row.key.as_str()).collect();
        assert!(wrong.contains("7-5") && wrong.contains("7-16"), "{wrong:?}");
    }

    #[test]
    fn a_head_of_other_labels_is_left_out() {
        let mut store = filled();
        train(&mut store);
        let audit = audit(&store, "true").unwrap();
        assert_eq!((audit.kernel, audit.training), (AuditKernel::Cosine, TrainingSignal::None));
        assert!(audit.notes[0].contains("was trained on field \"kind\""), "{:?}", audit.notes);
        assert!(audit.rows.iter().filter(|row| row.suggested != row.label).count() < 5);
    }
}
