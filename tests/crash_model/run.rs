//! One random sequence.

use std::num::NonZeroUsize;
use std::sync::Arc;

use ascribe::base::{Cancel, ElementType, FieldDeclaration, FieldType, RandomStream};
use ascribe::encoder::EncoderSpecification;
use ascribe::engine::{
    ColumnDefinition, ColumnEncoder, CreateOptions, DeleteSelection, Import, IngestOptions, OnDuplicate,
    OpenError, OpenOptions, Reader, Store, Watch, verify,
};
use ascribe::sources::{FieldNames, InputFormat, Matrix, Source, from_reader};
use ascribe::storage::{CheckInProcess, Failure, SimulatedStorage, Storage};

use crate::check::{KEYS, difference, key};
use crate::model::{LetterEncoder, Model, ModelRow, WIDTH};

/// Steps of a sequence.
const STEPS: u64 = 14;
/// Outcomes of each crash that are tried.
const OUTCOMES: u64 = 3;

/// What the sequences of a test have seen.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub crashes: u64,
    pub failures: u64,
    pub kept_unacknowledged: u64,
    pub lost_unacknowledged: u64,
    pub refused: u64,
}

/// Segments of any size get an index and a graph.
fn options(extra_columns: &[String]) -> OpenOptions {
    let mut encoders: Vec<(String, Arc<dyn ascribe::encoder::Encoder>)> =
        vec![("letters".to_owned(), Arc::new(LetterEncoder))];
    encoders.extend(extra_columns.iter().map(|name| (name.clone(), Arc::new(LetterEncoder) as _)));
    OpenOptions {
        threads: NonZeroUsize::new(1),
        encoders,
        index_rows_min: 1,
        graph_rows_min: 1,
        ..OpenOptions::default()
    }
}

fn letters_column(name: &str) -> ColumnDefinition {
    ColumnDefinition {
        name: name.to_owned(),
        element: ElementType::F32,
        encoder: ColumnEncoder::Given(Arc::new(LetterEncoder)),
    }
}

fn create(storage: &SimulatedStorage) -> Store {
    let ready = ColumnDefinition {
        name: "ready".to_owned(),
        element: ElementType::F16,
        encoder: ColumnEncoder::BuiltIn(EncoderSpecification::Vectors { width: WIDTH }),
    };
    let fields = vec![FieldDeclaration { name: "year".to_owned(), kind: FieldType::Integer }];
    let create = CreateOptions { fields, columns: vec![ready, letters_column("letters")] };
    let options = OpenOptions { encoders: Vec::new(), ..options(&[]) };
    Store::create(Arc::new(storage.clone()), create, options).expect("an empty medium takes a store")
}

/// Opens with the encoders of whichever of the two schemas the store has.
fn opened<T>(candidates: [&Model; 2], what: &str, open: impl Fn(OpenOptions) -> Result<T, OpenError>) -> T {
    let mut last = None;
    for model in candidates {
        match open(options(&model.extra_columns)) {
            Ok(opened) => return opened,
            Err(error) => last = Some(error),
        }
    }
    panic!("{what}: {}", last.expect("there are two candidates"));
}

fn open(storage: &SimulatedStorage, candidates: [&Model; 2], seed: u64) -> Store {
    let what = format!("seed {seed}: cannot open for writing");
    opened(candidates, &what, |options| Store::open(Arc::new(storage.clone()), options))
}

fn read(storage: &SimulatedStorage, candidates: [&Model; 2], seed: u64) -> Reader {
    let what = format!("seed {seed}: cannot open for reading");
    opened(candidates, &what, |options| Reader::open(Arc::new(storage.clone()), options))
}

/// A change to a store, and what it makes of a model.
enum Step {
    Ingest {
        rows: Vec<(String, ModelRow)>,
        policy: OnDuplicate,
        commit_rows: usize,
        atomic: bool,
    },
    Import {
        rows: Vec<(String, ModelRow)>,
        policy: OnDuplicate,
    },
    DeleteKeys(Vec<String>),
    DeleteBefore(i64),
    AddField,
    AddColumn(String),
    DropColumn(String),
    Compact,
    /// Waits until every segment has its indexes.
    BuildIndexes,
    /// Something happens to index files: a seed of which, and what.
    SpoilIndexes(u64),
}

impl Step {
    fn random(random: &mut RandomStream, model: &Model, step: u64) -> Self {
        let policies = [OnDuplicate::Error, OnDuplicate::Skip, OnDuplicate::Replace, OnDuplicate::Replace];
        let policy = policies[random.below(4) as usize];
        let mut rows = || -> Vec<(String, ModelRow)> {
            let count = 1 + random.below(9);
            (0..count).map(|_| (key(random.below(KEYS)), ModelRow::random(random))).collect()
        };
        let rows = rows();
        let some_keys = |random: &mut RandomStream| -> Vec<String> {
            model.rows.keys().filter(|_| random.below(3) == 0).cloned().collect()
        };
        match random.below(16) {
            0..=4 => Self::Ingest {
                rows,
                policy,
                commit_rows: 1 + random.below(6) as usize,
                atomic: random.below(3) == 0,
            },
            5 | 6 => Self::Import { rows, policy },
            7 | 8 => Self::DeleteKeys(some_keys(random)),
            9 => Self::DeleteBefore(1990 + random.below(5) as i64),
            10 if !model.has_late_field => Self::AddField,
            11 | 12 => Self::Compact,
            13 => Self::BuildIndexes,
            14 => Self::SpoilIndexes(random.next_u64()),
            _ => match model.extra_columns.first() {
                Some(name) => Self::DropColumn(name.clone()),
                None => Self::AddColumn(format!("extra{step}")),
            },
        }
    }

    /// The states that the model goes through, one a commit; `None` if the store must refuse the step. Of a refused
    /// ingest the commits before the bad batch stay.
    fn states(&self, model: &Model) -> (Vec<Model>, bool) {
        let mut state = model.clone();
        match self {
            Self::Ingest { rows, policy, commit_rows, atomic } => {
                let size = if *atomic { rows.len() } else { *commit_rows };
                let mut states = Vec::new();
                for batch in rows.chunks(size) {
                    if !put_rows(&mut state, batch, *policy) {
                        return (states, false);
                    }
                    states.push(state.clone());
                }
                (states, true)
            }
            Self::Import { rows, policy } => {
                let accepted = put_rows(&mut state, rows, *policy);
                (if accepted { vec![state] } else { Vec::new() }, accepted)
            }
            Self::DeleteKeys(keys) => {
                keys.iter().for_each(|key| drop(state.rows.remove(key)));
                (vec![state], true)
            }
            Self::DeleteBefore(year) => {
                state.rows.retain(|_, row| row.year.is_none_or(|own| own >= *year));
                (vec![state], true)
            }
            Self::AddField => {
                state.has_late_field = true;
                (vec![state], true)
            }
            Self::AddColumn(name) => {
                state.extra_columns.push(name.clone());
                (vec![state], true)
            }
            Self::DropColumn(name) => {
                state.extra_columns.retain(|known| known != name);
                (vec![state], true)
            }
            Self::Compact | Self::BuildIndexes | Self::SpoilIndexes(_) => (vec![state], true),
        }
    }

    /// Applies the step; returns how many commits were acknowledged, and why it ended early.
    fn apply(&self, store: &mut Store, storage: &SimulatedStorage) -> (usize, Option<String>) {
        let cancel = Cancel::new();
        let watch = Watch::silent(&cancel);
        let one = |result: Result<(), String>| (usize::from(result.is_ok()), result.err());
        match self {
            Self::Ingest { rows, policy, commit_rows, atomic } => {
                let options = IngestOptions {
                    on_duplicate: *policy,
                    commit_rows: *commit_rows,
                    atomic: *atomic,
                    ..IngestOptions::default()
                };
                let mut acknowledged = 0;
                let outcome = store.ingest(source(rows), &options, watch, &mut |_| acknowledged += 1);
                (acknowledged, outcome.err().map(|error| error.to_string()))
            }
            Self::Import { rows, policy } => {
                let values: Vec<u8> =
                    rows.iter().flat_map(|(_, row)| row.vector).flat_map(f32::to_le_bytes).collect();
                let npy = npy(rows.len(), &values);
                let embeddings = Matrix::from_npy(&npy, "E.npy").expect("the test writes good npy");
                let mut keys = keys_source(rows);
                let import = Import {
                    keys: keys.as_mut(),
                    metadata: None,
                    embeddings: Some(embeddings),
                    sketches: None,
                    column: None,
                    on_duplicate: *policy,
                };
                one(store.import(import, watch).map(drop).map_err(|error| error.to_string()))
            }
            Self::DeleteKeys(keys) => one(store
                .delete(&DeleteSelection::Keys(keys.clone()))
                .map(drop)
                .map_err(|error| error.to_string())),
            Self::DeleteBefore(year) => one(store
                .delete(&DeleteSelection::Where(format!("year < {year}")))
                .map(drop)
                .map_err(|error| error.to_string())),
            Self::AddField => {
                let field = FieldDeclaration { name: "late".to_owned(), kind: FieldType::Integer };
                one(store.add_field(field).map(drop).map_err(|error| error.to_string()))
            }
            Self::AddColumn(name) => one(store
                .add_column(letters_column(name), watch)
                .map(drop)
                .map_err(|error| error.to_string())),
            Self::DropColumn(name) => {
                one(store.drop_column(name).map(drop).map_err(|error| error.to_string()))
            }
            Self::Compact => one(store.compact(watch).map(drop).map_err(|error| error.to_string())),
            Self::BuildIndexes => {
                one(store.build_indexes(watch).map(drop).map_err(|error| error.to_string()))
            }
            Self::SpoilIndexes(seed) => {
                spoil_indexes(storage, *seed);
                (1, None)
            }
        }
    }
}

fn is_derived(name: &str) -> bool {
    name.ends_with(".idx") || name.ends_with(".graph")
}

/// Removes, cuts, damages or exchanges index and graph files.
fn spoil_indexes(storage: &SimulatedStorage, seed: u64) {
    let mut random = RandomStream::new(seed);
    let names: Vec<String> = storage.names().into_iter().filter(|name| is_derived(name)).collect();
    for name in &names {
        let Ok(mut bytes) = storage.read_file(name) else { continue };
        let at = random.below(bytes.len() as u64) as usize;
        match random.below(5) {
            0 => drop(storage.remove(name)),
            1 => bytes.truncate(at),
            2 => bytes[at] ^= 1 << random.below(8),
            3 => {
                let other = &names[random.below(names.len() as u64) as usize];
                bytes = storage.read_file(other).unwrap_or(bytes);
            }
            _ => continue,
        }
        if storage.exists(name).unwrap_or(false) {
            storage.overwrite_file(name, &bytes).expect("the file is there");
        }
    }
}

/// Puts a batch into the model; false if the policy refuses it.
fn put_rows(state: &mut Model, rows: &[(String, ModelRow)], policy: OnDuplicate) -> bool {
    let mut next = state.clone();
    for (key, row) in rows {
        match (next.rows.contains_key(key), policy) {
            (true, OnDuplicate::Error) => return false,
            (true, OnDuplicate::Skip) => {}
            _ => drop(next.rows.insert(key.clone(), row.clone())),
        }
    }
    *state = next;
    true
}

fn source(rows: &[(String, ModelRow)]) -> Box<dyn Source> {
    let lines: String = rows.iter().map(|(key, row)| row.json(key)).collect();
    let fields = FieldNames { key: Some("id".into()), text: Some("body".into()), vector: Some("vec".into()) };
    let bytes = std::io::Cursor::new(lines.into_bytes());
    from_reader(bytes, "rows", InputFormat::JsonLines, &fields).expect("the fields are fine")
}

fn keys_source(rows: &[(String, ModelRow)]) -> Box<dyn Source> {
    let mut lines = String::new();
    for (key, row) in rows {
        let mut line: serde_json::Value = serde_json::from_str(&row.json(key)).expect("the test writes JSON");
        let object = line.as_object_mut().expect("a row is an object");
        object.remove("vec");
        lines.push_str(&line.to_string());
        lines.push('\n');
    }
    let fields = FieldNames { key: Some("id".into()), text: Some("body".into()), vector: None };
    let bytes = std::io::Cursor::new(lines.into_bytes());
    from_reader(bytes, "keys", InputFormat::JsonLines, &fields).expect("the fields are fine")
}

fn npy(rows: usize, values: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {WIDTH}), }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend_from_slice(&(header.len() as u16).to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(values);
    bytes
}

/// Runs the sequence of a seed.
pub(crate) fn run_seed(seed: u64, totals: &mut Totals) {
    let mut random = RandomStream::new(seed);
    let mut storage = SimulatedStorage::new();
    let mut store = create(&storage);
    let mut model = Model::default();
    for step_number in 0..STEPS {
        let step = Step::random(&mut random, &model, step_number);
        let (states, accepted) = step.states(&model);
        match random.below(8) {
            // Mostly a crash somewhere in the step, sometimes an I/O error, sometimes nothing.
            0..=4 => storage.crash_at_sync(1 + random.below(10)),
            5 => {
                let failure = if random.below(2) == 0 { Failure::Once } else { Failure::Forever };
                storage.fail_operation(1 + random.below(40), failure);
            }
            _ => {}
        }
        let (acknowledged, error) = step.apply(&mut store, &storage);
        // Indexes are built on: no crash is wanted from now on.
        storage.crash_at_sync(1 << 40);
        // A step that changes nothing commits nothing.
        let acknowledged =
            if error.is_none() && states.last() == Some(&model) { states.len() } else { acknowledged };
        let before = acknowledged.checked_sub(1).map_or(&model, |last| &states[last]).clone();
        let after = states.get(acknowledged).unwrap_or(&before).clone();
        let finished = acknowledged == states.len();
        if error.is_none() {
            assert!(
                accepted && finished,
                "seed {seed}, step {step_number}: a step that must be refused was not"
            );
        } else if finished && !storage.has_crashed() {
            totals.refused += 1;
        }
        let context = format!("seed {seed}, step {step_number}, error {error:?}");
        if storage.has_crashed() {
            drop(store);
            (storage, model) = after_crash(&storage, [&before, &after], &mut random, totals, &context, seed);
        } else if error.is_some() || random.below(4) == 0 {
            totals.failures += u64::from(error.is_some());
            drop(store);
            storage = settled(&storage);
            model = reopened(&storage, [&before, &after], &mut random, totals, &context, seed);
        } else {
            let found = difference(&store.snapshot(), &after_if(finished, &before, &after), &mut random);
            assert_eq!(found, None, "{context}");
            model = before;
            continue;
        }
        store = open(&storage, [&model, &model], seed);
    }
    drop(store);
    let storage: Arc<dyn Storage> = Arc::new(settled(&storage));
    let report = verify(&storage, true, &CheckInProcess, Watch::silent(&Cancel::new()))
        .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    // Indexes that the sequence spoilt are told, and nothing else is.
    let problems: Vec<_> = report.problems.iter().filter(|problem| !is_derived(&problem.place)).collect();
    assert!(problems.is_empty() && report.catalog, "seed {seed}: {problems:?}");
}

fn after_if(finished: bool, before: &Model, after: &Model) -> Model {
    if finished { before.clone() } else { after.clone() }
}

/// The medium without injected failures: what another process would find without a crash.
fn settled(storage: &SimulatedStorage) -> SimulatedStorage {
    storage.duplicate()
}

/// Tries several outcomes of a crash; goes on with the last.
fn after_crash(
    storage: &SimulatedStorage,
    candidates: [&Model; 2],
    random: &mut RandomStream,
    totals: &mut Totals,
    context: &str,
    seed: u64,
) -> (SimulatedStorage, Model) {
    let mut survivor = None;
    for _ in 0..OUTCOMES {
        let crash_seed = random.next_u64();
        let medium = storage.crash(crash_seed);
        totals.crashes += 1;
        let context = format!("{context}, crash {crash_seed}");
        let reader = read(&medium, candidates, seed);
        let seen = candidates.map(|model| difference(&reader.snapshot(), model, random));
        assert!(seen.contains(&None), "{context}: a reader sees neither state: {seen:#?}");
        drop(reader);
        let model = reopened(&medium, candidates, random, totals, &context, seed);
        survivor = Some((medium, model));
    }
    survivor.expect("at least one outcome was tried")
}

/// Opens for writing and finds out which of two states is there.
fn reopened(
    storage: &SimulatedStorage,
    candidates: [&Model; 2],
    random: &mut RandomStream,
    totals: &mut Totals,
    context: &str,
    seed: u64,
) -> Model {
    let store = open(storage, candidates, seed);
    let mut differences = Vec::new();
    for (position, model) in candidates.into_iter().enumerate() {
        match difference(&store.snapshot(), model, random) {
            None => {
                if candidates[0] != candidates[1] {
                    totals.kept_unacknowledged += position as u64;
                    totals.lost_unacknowledged += 1 - position as u64;
                }
                return model.clone();
            }
            Some(found) => differences.push(found),
        }
    }
    panic!("{context}: neither the state before nor the one after: {differences:#?}");
}
