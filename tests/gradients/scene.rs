//! Stores in memory, and what is asked of them.

use std::io::Cursor;
use std::sync::Arc;

use ascribe::attribution::ScoreKind;
use ascribe::base::{Cancel, ElementType, FieldDeclaration, FieldType};
use ascribe::curvature::CurvatureKind;
use ascribe::engine::{
    Answer, ColumnDefinition, CreateOptions, DeleteSelection, FitOptions, FitReport, GradientError,
    GradientInput, GradientQuery, Import, ImportError, ImportReport, MemberScores, OnDuplicate, OpenOptions,
    Snapshot, Store, Watch, verify,
};
use ascribe::sketch::GradientSource;
use ascribe::sources::{FieldNames, InputFormat, Source, from_reader};
use ascribe::storage::{CheckInProcess, SimulatedStorage, Storage};

use crate::gradients::Gradients;

/// Gradients of 40 rows of a small classifier, from its own training set.
pub(crate) const TRAIN: &[u8] = include_bytes!("../fixtures/attribution/train.safetensors");

/// Gradients of 6 further rows.
pub(crate) const QUERIES: &[u8] = include_bytes!("../fixtures/attribution/queries.safetensors");

/// A store and the medium below it.
pub(crate) struct Scene {
    pub(crate) storage: SimulatedStorage,
    pub(crate) store: Store,
}

/// What must not change where something is refused.
#[derive(Debug, PartialEq)]
pub(crate) struct State {
    commit: u64,
    rows: u64,
    files: Vec<String>,
}

pub(crate) fn options() -> OpenOptions {
    OpenOptions { compact: false, ..OpenOptions::default() }
}

/// A keys file with the field `number`, which is the row's number in its key.
pub(crate) fn keys_source(keys: &[String]) -> Box<dyn Source> {
    let line = |key: &String| {
        let number: i64 = key.trim_start_matches(|letter: char| !letter.is_ascii_digit()).parse().unwrap();
        format!("{}\n", serde_json::json!({"key": key, "number": number}))
    };
    let lines: String = keys.iter().map(line).collect();
    from_reader(Cursor::new(lines), "keys", InputFormat::JsonLines, &FieldNames::of_keys_file()).unwrap()
}

impl Scene {
    /// An empty store with these columns.
    pub(crate) fn with_columns(columns: Vec<ColumnDefinition>) -> Self {
        let storage = SimulatedStorage::new();
        let fields = vec![FieldDeclaration { name: "number".to_owned(), kind: FieldType::Integer }];
        let medium: Arc<dyn Storage> = Arc::new(storage.clone());
        let store = Store::create(medium, CreateOptions { fields, columns }, options()).unwrap();
        Self { storage, store }
    }

    /// An empty store with one column for gradients of this schema.
    pub(crate) fn of_schema(gradients: &Gradients, element: ElementType) -> Self {
        let column = ColumnDefinition { element, ..ColumnDefinition::sketch(gradients.schema.clone()) };
        Self::with_columns(vec![column])
    }

    /// A store with these rows, imported together.
    pub(crate) fn of_rows(gradients: &Gradients) -> Self {
        let mut scene = Self::of_schema(gradients, ElementType::F32);
        scene.import(gradients);
        scene
    }

    pub(crate) fn import(&mut self, gradients: &Gradients) -> ImportReport {
        self.try_import(&gradients.keys, gradients, None, OnDuplicate::Error).unwrap()
    }

    #[allow(clippy::result_large_err)]
    pub(crate) fn try_import(
        &mut self,
        keys: &[String],
        sketches: &dyn GradientSource,
        column: Option<&str>,
        on_duplicate: OnDuplicate,
    ) -> Result<ImportReport, ImportError> {
        let mut keys = keys_source(keys);
        let import = Import {
            keys: keys.as_mut(),
            metadata: None,
            embeddings: None,
            sketches: Some(sketches),
            column: column.map(str::to_owned),
            on_duplicate,
        };
        self.store.import(import, Watch::silent(&Cancel::new()))
    }

    pub(crate) fn try_fit(&mut self, options: &FitOptions) -> Result<FitReport, GradientError> {
        self.store.fit(options, Watch::silent(&Cancel::new()))
    }

    pub(crate) fn fit(&mut self, kind: CurvatureKind) -> FitReport {
        self.try_fit(&FitOptions { kind: Some(kind), ..FitOptions::default() }).unwrap()
    }

    pub(crate) fn delete(&mut self, keys: &[String]) {
        let report = self.store.delete(&DeleteSelection::Keys(keys.to_vec())).unwrap();
        assert_eq!(report.rows, keys.len() as u64);
    }

    /// Scores of all live rows for each of these gradients, with their keys.
    pub(crate) fn scores(&self, asked: &Gradients, query: &GradientQuery) -> Vec<Vec<f64>> {
        scores(&self.store.snapshot(), asked, query).unwrap()
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.store.snapshot().gradient_keys(None).unwrap()
    }

    pub(crate) fn answer(&self, asked: &Gradients, row: usize, query: &GradientQuery) -> Answer {
        let input = GradientInput::Source { source: asked, row };
        let answers = self.store.snapshot().query_gradients(&[input], query, &Cancel::new()).unwrap();
        answers.into_iter().next().unwrap()
    }

    pub(crate) fn state(&self) -> State {
        let snapshot = self.store.snapshot();
        State { commit: snapshot.commit().0, rows: snapshot.row_count(), files: self.storage.names() }
    }

    /// Fails the test unless every byte of the store is as it should be.
    pub(crate) fn verify(self) -> SimulatedStorage {
        let Self { storage, store } = self;
        drop(store);
        assert_eq!(problems(&storage), Vec::<String>::new());
        storage
    }
}

/// What a deep check of a store finds.
pub(crate) fn problems(storage: &SimulatedStorage) -> Vec<String> {
    let medium: Arc<dyn Storage> = Arc::new(storage.clone());
    let report = verify(&medium, true, &CheckInProcess, Watch::silent(&Cancel::new())).unwrap();
    report.problems.into_iter().map(|problem| format!("{}: {}", problem.place, problem.message)).collect()
}

/// Scores of all live rows of a snapshot for each of these gradients.
pub(crate) fn scores(
    snapshot: &Snapshot,
    asked: &Gradients,
    query: &GradientQuery,
) -> Result<Vec<Vec<f64>>, GradientError> {
    let inputs: Vec<GradientInput<'_>> =
        (0..asked.rows()).map(|row| GradientInput::Source { source: asked, row }).collect();
    let mut all = Vec::new();
    snapshot.score_gradients(&inputs, query, &Cancel::new(), |number, scores| {
        assert_eq!(number, all.len());
        all.push(scores.to_vec());
        Ok::<(), GradientError>(())
    })?;
    Ok(all)
}

/// A question to a curvature.
pub(crate) fn by(curvature: CurvatureKind) -> GradientQuery {
    GradientQuery { curvature: Some(curvature), ..GradientQuery::default() }
}

/// The same with scores of another kind.
pub(crate) fn of_kind(curvature: CurvatureKind, kind: ScoreKind) -> GradientQuery {
    GradientQuery { kind, ..by(curvature) }
}

/// The same with the plain mean over members.
pub(crate) fn raw(curvature: CurvatureKind) -> GradientQuery {
    GradientQuery { members: MemberScores::Raw, ..by(curvature) }
}

/// Fails the test unless all values differ by at most `tolerance` times the largest of them.
pub(crate) fn close(found: &[Vec<f64>], expected: &[Vec<f64>], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().flatten().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    assert!(largest > 0.0, "{what}: nothing to compare with");
    for (query, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found.len(), expected.len(), "{what}");
        for (row, (a, b)) in found.iter().zip(expected).enumerate() {
            let difference = (a - b).abs() / largest;
            assert!(
                difference <= tolerance,
                "{what}: query {query}, row {row}: {a} for {b} ({difference:e})"
            );
        }
    }
}

/// The largest difference, as a share of the largest value.
pub(crate) fn furthest(found: &[Vec<f64>], expected: &[Vec<f64>]) -> f64 {
    let largest = expected.iter().flatten().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    let pairs = found.iter().flatten().zip(expected.iter().flatten());
    pairs.fold(0.0_f64, |furthest, (a, b)| furthest.max((a - b).abs())) / largest
}
