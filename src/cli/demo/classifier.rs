//! Why a classifier gets a work wrong: gradients of its rows, what deleting some of them does, and how far that agrees with
//! really training again.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Map, Value};

use super::super::catalog_check::CheckInChild;
use super::super::failure::Failure;
use super::super::schema::{parse_column, parse_field};
use super::super::session::Session;
use crate::answers::{Grid, GridColumn, count_shown, duration_shown};
use crate::attribution::{ScoreKind, Side};
use crate::base::limits::HYBRID_CANDIDATES_DEFAULT;
use crate::base::{Cancel, drawn_numbers};
use crate::encoder::HeadConfiguration;
use crate::engine::{
    Answer, CreateOptions, EMBEDDING_COLUMN_NAME, FitOptions, GradientInput, GradientQuery, Hit,
    HybridCandidates, HybridQuestion, IngestOptions, LabelledTable, LabelledText, OpenOptions, QueryInput,
    Snapshot, Store,
};
use crate::evaluation::{
    LdsOptions, LdsReport, RetrainingTruth, group_sums, keep_same_label, linear_datamodelling_score,
};
use crate::sources::{FieldNames, InputFormat, from_reader};
use crate::storage::Storage;
use crate::training::{HeadPlan, LabelledRows, TruthPlan, measure_truth, train_head, train_store_head};

/// The field that is predicted.
const LABEL: &str = "technique";
/// Works that the classifier is trained on, and works that it is asked about.
const TRAINED_ROWS: usize = 1500;
const ASKED_ROWS: usize = 150;
/// Decides which.
const SEED: u64 = 7;
/// Rows that are taken away to see what happens.
const REMOVED_ROWS: usize = 20;
/// Trainings that a measured change is the mean of.
const TRAININGS: u64 = 5;
/// Random halves of the rows for the linear datamodelling score.
const HALVES: usize = 40;

/// A work that the classifier was not trained on.
struct Work {
    key: String,
    text: String,
    technique: String,
}

/// A work that the classifier gets wrong.
struct Mistake<'a> {
    work: &'a Work,
    predicted: String,
    probability: f64,
}

/// The part of the tour about gradients.
pub(super) struct Classifier<'s, 'out> {
    pub(super) session: &'s mut Session<'out>,
    pub(super) storage: Arc<dyn Storage>,
    /// The encoder, as `create` takes it.
    pub(super) encoder: String,
}

impl Classifier<'_, '_> {
    /// Runs it on the documents of the demo. Returns what was measured.
    pub(super) fn run(mut self, documents: &[String]) -> Result<Vec<(&'static str, String)>, Failure> {
        let mut measured = Vec::new();
        let (rows, works) = split(documents)?;
        let mut store = self.fill(&rows)?;
        let begun = Instant::now();
        let head = train_store_head(&mut store, &HeadPlan::of_label(LABEL), self.session.watch())?;
        measured.push(("training a classifier, and all gradients", duration_shown(begun.elapsed())));
        let begun = Instant::now();
        let fit = store.fit(&FitOptions::default(), self.session.watch())?;
        measured.push(("fitting the curvature", duration_shown(begun.elapsed())));
        self.session.line(&format!(
            "A classifier of the technique by title and artist alone was trained {} times on {} works ({:.0} % of\n\
             them right); the gradient of every work was kept at {} checkpoints, and the {} curvature fitted.",
            head.members / 2,
            count_shown(head.rows),
            100.0 * head.accuracy,
            head.members,
            fit.kind.name()
        ))?;
        let snapshot = store.snapshot();
        let mistakes = self.mistakes(&snapshot, &works)?;
        self.session.line(&format!(
            "Of {} works that it has never seen it gets {} wrong. Those it is surest of:",
            works.len(),
            mistakes.len()
        ))?;
        // Works of one title by one artist are one question.
        let mut shown: Vec<&Mistake<'_>> = Vec::new();
        for mistake in mistakes.iter().filter(|mistake| !mistake.work.text.starts_with('[')) {
            if shown.len() < 2 && shown.iter().all(|other| other.work.text != mistake.work.text) {
                shown.push(mistake);
            }
        }
        for mistake in &shown {
            let elapsed = self.explain(&snapshot, mistake)?;
            measured.push(("a question about a gradient", elapsed));
        }
        if let Some(mistake) = shown.first() {
            self.delete(&snapshot, mistake)?;
        }
        self.agreement(&snapshot, &works)?;
        measured.truncate(3);
        Ok(measured)
    }

    fn fill(&mut self, rows: &[String]) -> Result<Store, Failure> {
        let fields =
            [format!("{LABEL}:text")].iter().map(|field| parse_field(field)).collect::<Result<Vec<_>, _>>();
        let columns = vec![parse_column(EMBEDDING_COLUMN_NAME, &self.encoder)?];
        let create = CreateOptions { fields: fields.map_err(Failure::Failed)?, columns };
        let options = OpenOptions { catalog_check: Arc::new(CheckInChild), ..Default::default() };
        self.storage.create_folder("")?;
        let mut store = Store::create(Arc::clone(&self.storage), create, options)?;
        let names = FieldNames { key: Some("key".to_owned()), ..FieldNames::default() };
        let text = rows.join("\n");
        let source = from_reader(std::io::Cursor::new(text), "the works", InputFormat::JsonLines, &names)?;
        store.ingest(source, &IngestOptions::default(), self.session.watch(), &mut |_| {})?;
        Ok(store)
    }

    /// Works that most of the trained heads get wrong, the surest first.
    fn mistakes<'a>(&self, snapshot: &Snapshot, works: &'a [Work]) -> Result<Vec<Mistake<'a>>, Failure> {
        let classes = table(snapshot)?.classes;
        let mut mistakes = Vec::new();
        for work in works.iter().filter(|work| classes.contains(&work.technique)) {
            let mut best = (String::new(), 0.0);
            let vector = snapshot.embed(None, &work.text)?;
            let asked: Vec<LabelledText> = classes
                .iter()
                .map(|label| LabelledText::Vector { vector: vector.clone(), label: label.clone() })
                .collect();
            for (class, gradient) in classes.iter().zip(snapshot.label_gradients(None, &asked)?) {
                // The last checkpoint of each run.
                let last: Vec<f64> =
                    gradient.own.iter().skip(1).step_by(2).map(|own| 1.0 - f64::from(*own)).collect();
                let probability = last.iter().sum::<f64>() / last.len().max(1) as f64;
                if probability > best.1 {
                    best = (class.clone(), probability);
                }
            }
            if best.0 != work.technique {
                mistakes.push(Mistake { work, predicted: best.0, probability: best.1 });
            }
        }
        mistakes.sort_by(|left, right| right.probability.total_cmp(&left.probability));
        Ok(mistakes)
    }

    /// Shows which rows pushed a work where it is, and which would have helped.
    fn explain(&mut self, snapshot: &Snapshot, mistake: &Mistake<'_>) -> Result<String, Failure> {
        let Mistake { work, predicted, probability } = mistake;
        self.session.line(&format!(
            "\n\"{}\" ({}) is said to be \"{predicted}\" with p = {probability:.2}. Rows that pushed it there:",
            work.text, work.technique
        ))?;
        let begun = Instant::now();
        let wrong = ask(snapshot, (&work.text, predicted), 4, &self.session.cancel)?;
        let elapsed = duration_shown(begun.elapsed());
        self.show(&wrong.proponents)?;
        self.session.line(&format!("Rows that spoke for \"{}\":", work.technique))?;
        let right = ask(snapshot, (&work.text, &work.technique), 4, &self.session.cancel)?;
        self.show(&right.proponents)?;
        Ok(elapsed)
    }

    fn show(&mut self, hits: &[Hit]) -> Result<(), Failure> {
        let mut grid = Grid::new(&[
            ("score", GridColumn::Number),
            (LABEL, GridColumn::Name),
            ("text", GridColumn::Text),
        ]);
        for hit in hits {
            let technique = hit.metadata.get(LABEL).and_then(Value::as_str).unwrap_or_default();
            grid.row([format!("{:.2}", hit.score).as_str(), technique, hit.text.as_str()]);
        }
        grid.write(self.session.out, self.session.page).map_err(Failure::Output)
    }

    /// What deleting the strongest rows does: predicted, and measured by training without them.
    fn delete(&mut self, snapshot: &Snapshot, mistake: &Mistake<'_>) -> Result<(), Failure> {
        let Mistake { work, predicted, .. } = mistake;
        let strongest = ask(snapshot, (&work.text, predicted), REMOVED_ROWS, &self.session.cancel)?;
        let keys: Vec<String> = strongest.proponents.iter().map(|hit| hit.key.clone()).collect();
        let rows = table(snapshot)?;
        let change: f64 = {
            let query =
                GradientQuery { members: crate::engine::MemberScores::Raw, ..GradientQuery::default() };
            let gradients = snapshot.label_gradients(None, &[asked(&work.text, predicted)])?;
            let input = QueryInput::Text(work.text.clone());
            let inputs = GradientInput::of_head(&input, &gradients);
            let mut sum = 0.0;
            let all = snapshot.gradient_keys(None)?;
            snapshot.score_gradients(&inputs, &query, &self.session.cancel, |_, scores| {
                let chosen = all.iter().zip(scores).filter(|(key, _)| keys.contains(key));
                sum += chosen.map(|(_, score)| score).sum::<f64>() / scores.len() as f64;
                Ok::<(), Failure>(())
            })?;
            sum
        };
        let before = trained_loss(snapshot, &rows, &[], (&work.text, predicted))?;
        let after = trained_loss(snapshot, &rows, &keys, (&work.text, predicted))?;
        let p = |loss: f64| (-loss).exp();
        self.session.line(&format!(
            "\nWithout the {} rows that pushed the first one hardest, the loss on \"{predicted}\" is predicted to rise by\n\
             {change:.2}. Trained again without them ({TRAININGS} times) it rises by {:.2}, from {before:.2} to {after:.2}: p falls\n\
             from {:.2} to {:.2}.",
            keys.len(),
            after - before,
            p(before),
            p(after)
        ))
    }

    /// The linear datamodelling score of each kind of score.
    fn agreement(&mut self, snapshot: &Snapshot, works: &[Work]) -> Result<(), Failure> {
        let rows = table(snapshot)?;
        let (works, asked_labels): (Vec<&Work>, Vec<u32>) =
            works.iter().filter_map(|work| Some((work, rows.class_of(&work.technique)?))).unzip();
        let vectors = works
            .iter()
            .map(|work| snapshot.embed(None, &work.text))
            .collect::<Result<Vec<Vec<f32>>, _>>()?;
        let plan =
            TruthPlan { subsets: HALVES, runs: 1, seed: SEED, configuration: HeadConfiguration::default() };
        let labelled = LabelledRows::new(&rows.features, rows.width, &rows.labels, &rows.classes)?;
        let asked_features = vectors.concat();
        let queries = LabelledRows::new(&asked_features, rows.width, &asked_labels, &rows.classes)?;
        let watch = self.session.watch();
        let truth = snapshot.in_pool(|| {
            let finished = |_, _: &[f32]| ControlFlow::Continue(());
            measure_truth(&labelled, &queries, &plan, &[], &finished, watch.progress, watch.cancel)
        })?;
        let outputs = truth.outputs.iter().map(|value| f64::from(*value)).collect();
        let outputs = RetrainingTruth::new(outputs, HALVES, 1, works.len())?;

        let learned = snapshot.score_vectors(None, &vectors, ScoreKind::Dot, &self.session.cancel)?;
        let mut same = snapshot.score_vectors(None, &vectors, ScoreKind::Cosine, &self.session.cancel)?;
        let label_of = |number: &Option<usize>| {
            let class = rows.labels.get((*number)?)?;
            rows.classes.get(*class as usize).map(String::as_str)
        };
        let of_rows: Vec<Option<&str>> = rows.labelled.iter().map(label_of).collect();
        keep_same_label(&mut same, works.iter().map(|work| work.technique.as_str()), &of_rows);
        let asked: Vec<LabelledText> = works
            .iter()
            .zip(&vectors)
            .map(|(work, vector)| LabelledText::Vector {
                vector: vector.clone(),
                label: work.technique.clone(),
            })
            .collect();
        let gradients = snapshot.label_gradients(None, &asked)?;
        let input = QueryInput::Key(String::new());
        let inputs = GradientInput::of_head(&input, &gradients);
        let mut gradient = Vec::with_capacity(works.len());
        snapshot.score_gradients(&inputs, &GradientQuery::default(), &self.session.cancel, |_, scores| {
            gradient.push(scores.to_vec());
            Ok::<(), Failure>(())
        })?;
        let questions = vectors.iter().zip(&inputs).map(|(vector, gradient)| {
            let embedding = QueryInput::Vector(vector.clone());
            let candidates = HybridCandidates::Embedding { input: embedding, column: None };
            HybridQuestion { candidates, gradient: *gradient }
        });
        let mut hybrid = Vec::with_capacity(works.len());
        snapshot.score_hybrid(
            &questions.collect::<Vec<_>>(),
            &GradientQuery::default(),
            HYBRID_CANDIDATES_DEFAULT,
            &self.session.cancel,
            |_, scores| {
                hybrid.push(scores.to_vec());
                Ok::<(), Failure>(())
            },
        )?;
        let groups = [&learned, &same, &gradient, &hybrid]
            .into_iter()
            .map(|scores| group_sums(&scores.concat(), &truth.subsets, rows.labels.len()))
            .collect::<Result<Vec<_>, _>>()?;
        let groups: Vec<&[f64]> = groups.iter().map(Vec::as_slice).collect();
        let report = linear_datamodelling_score(&outputs, &groups, LdsOptions::default())?;
        self.show_agreement(&report)
    }

    fn show_agreement(&mut self, report: &LdsReport) -> Result<(), Failure> {
        self.session.line(&format!(
            "\nTrained again on {HALVES} random halves of the works: rank correlation of what the scores predict for {} works\n\
             with what these classifiers said (1 = perfect; one training a half, so that noise keeps all below it):",
            report.queries.len()
        ))?;
        let mut grid = Grid::new(&[
            ("score", GridColumn::Name),
            ("LDS", GridColumn::Number),
            ("95% interval", GridColumn::Number),
        ]);
        let names = ["embedding", "same technique", "gradient", "hybrid"];
        for (name, method) in names.into_iter().zip(&report.methods) {
            let interval = format!("{:.2} to {:.2}", method.lds.low, method.lds.high);
            grid.row([name, format!("{:.2}", method.lds.mean).as_str(), interval.as_str()]);
        }
        grid.write(self.session.out, self.session.page).map_err(Failure::Output)
    }
}

/// Rows to train on, as documents, and works to ask about.
fn split(documents: &[String]) -> Result<(Vec<String>, Vec<Work>), Failure> {
    let order = drawn_numbers(documents.len() as u64, TRAINED_ROWS + ASKED_ROWS, SEED);
    let (mut rows, mut works) = (Vec::new(), Vec::new());
    for (number, at) in order.enumerate() {
        let document: Map<String, Value> = serde_json::from_str(&documents[at as usize])?;
        let word = |name: &str| document.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        // Without the medium, which would tell the technique.
        let full = word("text");
        let text = full.rsplit_once(" (").map_or(full.as_str(), |(text, _)| text).to_owned();
        let work = Work { key: word("key"), text, technique: word(LABEL) };
        if number < TRAINED_ROWS {
            rows.push(
                serde_json::json!({"key": work.key, "text": work.text, LABEL: work.technique}).to_string(),
            );
        } else {
            works.push(work);
        }
    }
    Ok((rows, works))
}

fn asked(text: &str, label: &str) -> LabelledText {
    LabelledText::Text { text: text.to_owned(), label: label.to_owned() }
}

fn ask(
    snapshot: &Snapshot,
    (text, label): (&str, &str),
    k: usize,
    cancel: &Cancel,
) -> Result<Answer, Failure> {
    let query = GradientQuery { k, side: Side::Proponents, ..GradientQuery::default() };
    let gradients = snapshot.label_gradients(None, &[asked(text, label)])?;
    let input = QueryInput::Text(text.to_owned());
    let inputs = GradientInput::of_head(&input, &gradients);
    let mut answers = snapshot.query_gradients(&inputs, &query, cancel)?;
    answers.pop().ok_or_else(|| Failure::Failed("no answer".to_owned()))
}

fn table(snapshot: &Snapshot) -> Result<LabelledTable, Failure> {
    Ok(LabelledTable::new(snapshot.labelled_rows(None, LABEL)?))
}

/// Mean loss on a text and label of heads that are trained on all rows but some.
fn trained_loss(
    snapshot: &Snapshot,
    rows: &LabelledTable,
    left_out: &[String],
    (text, label): (&str, &str),
) -> Result<f64, Failure> {
    let vector = snapshot.embed(None, text)?;
    let labelled = LabelledRows::new(&rows.features, rows.width, &rows.labels, &rows.classes)?;
    let kept = rows.labelled_keys().enumerate().filter(|(_, key)| !left_out.contains(key));
    let kept: Vec<usize> = kept.map(|(number, _)| number).collect();
    let asked = rows.class_of(label).unwrap_or_default();
    let mut total = 0.0;
    for seed in 0..TRAININGS {
        let configuration = HeadConfiguration::default();
        let head = train_head(&labelled, &kept, &configuration, seed, &mut |_| ControlFlow::Continue(()))?;
        total += head.loss(&vector, &[asked])?.first().copied().unwrap_or(0.0);
    }
    Ok(total / TRAININGS as f64)
}
