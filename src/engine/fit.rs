//! Fitting a curvature to the gradients of a column.

use rayon::prelude::*;

use super::curvature::OpenCurvature;
use super::fit_codes::fit_codes;
use super::fit_file::{Beside, FileParts, FitHead, FitInput, MemberFit};
use super::fit_lengths::fit_lengths;
use super::fit_sums::{FitSums, row_weights, sum_rows, sums_kind, without_outcome};
use super::gradient_error::GradientError;
use super::gradient_query::{GradientInput, GradientQuery};
use super::gradient_rows::{GradientRows, GradientSegment, read_rows};
use super::options::Watch;
use super::snapshot::Snapshot;
use super::store::Store;
use crate::base::limits::{CODE_COORDINATES_MAX, DUAL_ROWS_MAX, LANDMARKS_DEFAULT, PRIMAL_PARAMETERS_MAX};
use crate::base::{ColumnId, CommitSeq, RowId, drawn_numbers};
use crate::curvature::{
    CurvatureForm, CurvatureKind, DiagonalFit, DualFit, LandmarkFit, MemberGradients, PrimalFit,
};
use crate::format::CurvatureRecord;
use crate::storage::{CURVATURE_FOLDER, FileError, SimulatedStorage, Storage, write_curvature_file};

/// What is to be fitted.
#[derive(Clone, Debug, Default)]
pub struct FitOptions {
    /// The sketch column; `None`: the only one.
    pub column: Option<String>,
    /// The curvature; `None`: `margin` where the sketches carry what it needs, `fisher` otherwise.
    pub kind: Option<CurvatureKind>,
    /// How it is computed; `None`: by the smaller matrix, and through landmarks where both are too large.
    pub form: Option<CurvatureForm>,
    /// Rows that stand for all of them in the landmarks form; `None`: [`LANDMARKS_DEFAULT`].
    pub landmarks: Option<usize>,
    /// Keep 8-bit codes of that many leading coordinates of each row's half-whitened gradients, by which hybrid scores find candidates;
    /// `None`: no codes.
    pub codes: Option<usize>,
    /// Damping as a share of the trace (`fisher`, `margin`) or of each module's mean (`diagonal`); `None`: what was
    /// measured to be best.
    pub damping: Option<f64>,
}

/// What a fit did.
#[derive(Clone, Debug, PartialEq)]
pub struct FitReport {
    /// Version of the curvature.
    pub version: u64,
    /// The column.
    pub column: String,
    /// The curvature.
    pub kind: CurvatureKind,
    /// How it is computed.
    pub form: CurvatureForm,
    /// Rows that it was fitted to.
    pub rows: u64,
    /// Rows among them whose gradients are zero: they are kept, and score 0.
    pub zero_rows: u64,
    /// Members.
    pub members: u32,
    /// Parameters of one member.
    pub parameters: u64,
    /// What was added to the diagonal, for each member; of `diagonal` for each module of each member.
    pub damping: Vec<Vec<f64>>,
    /// Of the landmarks form: how far the first member's scores of some rows are from those of the whole inverse, as a share of
    /// these (root mean squares over all rows).
    pub landmark_error: Option<f64>,
    /// Codes that were kept.
    pub codes: Option<CodesReport>,
    /// Of the primal form and of `diagonal`: which sums were kept, and how many rows were added up and taken away.
    pub sums: Option<FitSums>,
    /// Bytes of its file.
    pub bytes: u64,
    /// The commit that holds it.
    pub commit: CommitSeq,
}

/// Codes that a fit kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CodesReport {
    /// Coordinates of each row and member.
    pub coordinates: usize,
    /// How much of the first member's summed squared coordinates they hold, 0 to 1.
    pub share: f64,
}

/// Rows that are asked about to tell the error of landmarks.
const ERROR_ROWS: usize = 2;

/// Decides which rows become landmarks.
const LANDMARK_SEED: u64 = 0x6c61_6e64_6d61_726b;

impl Store {
    /// Fits a curvature to the gradients of all live rows of a sketch column, and keeps it in the store. An earlier one of
    /// the same kind and column gives way to it.
    ///
    /// Rows that come later are scored by the fitted curvature; rows that are deleted leave the dual form at once, at the same
    /// damping, and the others with the next fit.
    ///
    /// # Errors
    /// See [`GradientError`]. Nothing of a failed fit is visible.
    ///
    /// # Complexity
    /// Dual form: O(rows^2 x values + rows^3) a member; primal form: O(rows x parameters^2 + parameters^3); through landmarks
    /// O(rows x landmarks x parameters).
    pub fn fit(&mut self, options: &FitOptions, watch: Watch<'_>) -> Result<FitReport, GradientError> {
        let snapshot = self.snapshot();
        let rows = snapshot.gradient_rows(options.column.as_deref())?;
        watch.progress.begin("fit", "members", Some(u64::from(rows.schema.members())));
        let fitted = snapshot.inner.context.pool.install(|| {
            let input = gather(&snapshot, &rows, options, true, watch)?;
            let fits = fit(&input, options.damping, watch)?;
            Ok::<_, GradientError>((input, fits))
        });
        let (input, fits) = fitted.inspect_err(|_| watch.progress.end())?;
        let told = snapshot.inner.context.pool.install(|| {
            let codes = options.codes.map(|most| fit_codes(&input, &fits, most, watch.cancel)).transpose()?;
            let lengths = fit_lengths(&input, &fits, watch.cancel)?;
            let beside = Beside { lengths, codes: codes.unwrap_or_default() };
            Ok::<_, GradientError>((landmark_error(&input, &fits)?, beside))
        });
        watch.progress.end();
        let (landmark_error, beside) = told?;
        let head = head_of(&rows, &input, &fits, &beside);
        let damping = head.damping.clone();
        let codes = beside
            .codes
            .first()
            .map(|codes| CodesReport { coordinates: codes.fit.coordinates, share: codes.fit.share });
        let parameters = input.members.first().map_or(0, |(gradients, _)| gradients.parameters());
        let record = self.keep_curvature(rows.column.id, &head, &input, (&fits, &beside))?;
        Ok(FitReport {
            version: record.version,
            column: rows.column.name.clone(),
            kind: input.kind,
            form: input.form,
            rows: record.rows,
            zero_rows: input.zero_rows,
            members: rows.schema.members(),
            parameters,
            damping,
            landmark_error,
            codes,
            sums: input.sums.map(|sums| sums.report),
            bytes: record.file.length,
            commit: record.commit,
        })
    }

    /// Writes the file of a curvature and commits it.
    fn keep_curvature(
        &mut self,
        column: ColumnId,
        head: &FitHead,
        input: &FitInput,
        (fits, beside): (&[MemberFit], &Beside),
    ) -> Result<CurvatureRecord, GradientError> {
        let head_bytes = head_bytes(head)?;
        // Only now, so that others may write while the fit is computed; files are written under it, so that nobody
        // collects them before they are part of the store.
        let mut transaction = self.begin();
        if !transaction.next.store.columns.iter().any(|known| known.id == column) {
            return Err(GradientError::Column { reason: "the column was dropped meanwhile".to_owned() });
        }
        let version = transaction.next.store.next_curvature;
        let storage = self.context.storage.as_ref();
        let parts = FileParts::new(input, fits, beside);
        let written =
            write_curvature_file(storage, version, column, &parts.sections(&head_bytes, input, fits, beside));
        let file = written.inspect_err(|_| self.ledger.discard_uncommitted())?;
        let record = CurvatureRecord {
            version,
            column,
            kind: head.kind.clone(),
            form: head.form.clone(),
            rows: input.keys.len() as u64,
            commit: CommitSeq(transaction.next.store.commit.0 + 1),
            file,
        };
        let store = &mut transaction.next.store;
        store.next_curvature += 1;
        store.curvatures.retain(|known| known.column != column || known.kind != record.kind);
        store.curvatures.push(record.clone());
        self.commit(transaction, "fit")?;
        Ok(record)
    }
}

fn head_of(rows: &GradientRows<'_>, input: &FitInput, fits: &[MemberFit], beside: &Beside) -> FitHead {
    FitHead {
        kind: input.kind.name().to_owned(),
        form: input.form.name().to_owned(),
        damping: fits.iter().map(MemberFit::damping).collect(),
        schema: rows.schema.fingerprint().to_string(),
        zero_rows: input.zero_rows,
        landmarks: input.landmarks.len(),
        codes: beside.codes.first().map_or(0, |codes| codes.fit.coordinates),
    }
}

fn head_bytes(head: &FitHead) -> Result<Vec<u8>, GradientError> {
    serde_json::to_vec(head)
        .map_err(|error| GradientError::mismatch(format!("the fit cannot be written: {error}")))
}

impl Snapshot {
    /// Hands the scores of all live rows for each of some gradients to `take`, by curvatures fitted with each of `ratios` as
    /// damping (the one of `options` does not count); none of them is kept. `take` is told which of the ratios and of the
    /// gradients, from 0.
    ///
    /// # Errors
    /// See [`GradientError`], and those of `take`.
    ///
    /// # Complexity
    /// A fit and [`score_gradients`](Self::score_gradients) for each ratio; memory for the file of one curvature.
    pub fn score_dampings<E: From<GradientError> + Send>(
        &self,
        options: &FitOptions,
        ratios: &[f64],
        inputs: &[GradientInput<'_>],
        query: &GradientQuery,
        watch: Watch<'_>,
        mut take: impl FnMut(usize, usize, &[f64]) -> Result<(), E> + Send,
    ) -> Result<(), E> {
        let rows = self.gradient_rows(options.column.as_deref())?;
        let silent = Watch::silent(watch.cancel);
        // Candidates are not looked for.
        let options = FitOptions { codes: None, ..options.clone() };
        let input = self.inner.context.pool.install(|| gather(self, &rows, &options, false, silent))?;
        watch.progress.begin("damping", "trials", Some(ratios.len() as u64));
        let done = ratios.iter().enumerate().try_for_each(|(trial, ratio)| {
            let curvature = self.trial(&rows, &input, *ratio, silent)?;
            let scored = self.score_by(&rows, &curvature, inputs, query, watch.cancel, |number, scores| {
                take(trial, number, scores)
            });
            watch.progress.advance(trial as u64 + 1);
            scored
        });
        watch.progress.end();
        done
    }

    /// A curvature whose file is in memory and no part of the store.
    fn trial(
        &self,
        rows: &GradientRows<'_>,
        input: &FitInput,
        ratio: f64,
        watch: Watch<'_>,
    ) -> Result<OpenCurvature, GradientError> {
        const VERSION: u64 = 1;
        let fits = self.inner.context.pool.install(|| fit(input, Some(ratio), watch))?;
        // Scores of the kind `dot` are all that is asked of it.
        let beside = Beside::default();
        let head = head_of(rows, input, &fits, &beside);
        let head_bytes = head_bytes(&head)?;
        let storage = SimulatedStorage::new();
        storage.create_folder(CURVATURE_FOLDER).map_err(|source| FileError::Io {
            operation: "create",
            path: storage.describe(CURVATURE_FOLDER),
            source,
        })?;
        let parts = FileParts::new(input, &fits, &beside);
        let sections = parts.sections(&head_bytes, input, &fits, &beside);
        let file = write_curvature_file(&storage, VERSION, rows.column.id, &sections)?;
        let record = CurvatureRecord {
            version: VERSION,
            column: rows.column.id,
            kind: head.kind,
            form: head.form,
            rows: input.keys.len() as u64,
            commit: self.commit(),
            file,
        };
        OpenCurvature::open(&storage, rows, &record)
    }
}

/// Fits each member; `ratio` is the damping, or the one that is taken where none is named.
fn fit(input: &FitInput, ratio: Option<f64>, watch: Watch<'_>) -> Result<Vec<MemberFit>, GradientError> {
    let done = std::sync::atomic::AtomicU64::new(0);
    let ratio = ratio.or(input.kind.damping_ratio()).unwrap_or_default();
    let fits = input.members.par_iter().enumerate().map(|(member, (gradients, weights))| {
        if watch.cancel.is_cancelled() {
            return Err(GradientError::Cancelled);
        }
        let sums = input.sums.as_ref().and_then(|sums| sums.members.get(member));
        let fitted = match (input.kind, input.form, sums) {
            (CurvatureKind::Identity, _, _) => Ok(MemberFit::Nothing),
            (CurvatureKind::Diagonal, _, Some(sums)) => {
                DiagonalFit::of_sums(sums, ratio).map(MemberFit::Diagonal)
            }
            (_, CurvatureForm::Primal, Some(sums)) => PrimalFit::of_sums(sums, ratio).map(MemberFit::Primal),
            (_, CurvatureForm::Landmarks, _) => {
                LandmarkFit::fit(gradients, weights, &input.landmarks, ratio).map(MemberFit::Landmarks)
            }
            _ => DualFit::fit(gradients, weights, ratio).map(MemberFit::Dual),
        };
        watch.progress.advance(done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1);
        fitted.map_err(|source| GradientError::Curvature { member, source })
    });
    fits.collect()
}

/// Chooses kind and form, and reads the gradients of all live rows and, where a form needs it, what they add up to; new sums are
/// kept if `keeps`.
fn gather(
    snapshot: &Snapshot,
    rows: &GradientRows<'_>,
    options: &FitOptions,
    keeps: bool,
    watch: Watch<'_>,
) -> Result<FitInput, GradientError> {
    let live = rows.live_rows();
    if live == 0 {
        return Err(GradientError::mismatch(format!(
            "column {:?} has no gradients yet: import some first",
            rows.column.name
        )));
    }
    let kind = choose_kind(rows, options)?;
    match options.codes {
        Some(_) if kind == CurvatureKind::Diagonal => {
            return Err(GradientError::mismatch(
                "codes are kept with identity, fisher and margin, not with diagonal",
            ));
        }
        Some(most) if !(1..=CODE_COORDINATES_MAX).contains(&most) => {
            return Err(GradientError::mismatch(format!(
                "codes of {most} coordinates were asked for: take 1 to {CODE_COORDINATES_MAX}"
            )));
        }
        _ => {}
    }
    let parameters = MemberGradients::empty(rows.schema.layout()).parameters();
    let form = choose_form(kind, options.form, live, parameters)?;
    let mut input = read_gradients(rows, (kind, form), watch)?;
    if let Some(sums) = sums_kind(kind, form) {
        input.sums = Some(sum_rows(snapshot, rows, (kind, sums), keeps, watch.cancel)?);
    }
    if form == CurvatureForm::Landmarks || options.codes.is_some() {
        choose_landmarks(rows, &mut input, options.landmarks.unwrap_or(LANDMARKS_DEFAULT))?;
    }
    Ok(input)
}

fn choose_kind(rows: &GradientRows<'_>, options: &FitOptions) -> Result<CurvatureKind, GradientError> {
    let lacking = rows.segments.iter().find(|segment| !segment.file.has_outcomes());
    match (options.kind, lacking) {
        (Some(CurvatureKind::Margin), Some(segment)) => Err(GradientError::mismatch(format!(
            "margin needs the probability of each row's own label (\"own\" in the sketch file), which segment {} does not have: import sketches that carry it, or fit fisher",
            segment.view.segment.record.id
        ))),
        (Some(kind), _) => Ok(kind),
        (None, None) => Ok(CurvatureKind::Margin),
        (None, Some(_)) => Ok(CurvatureKind::Fisher),
    }
}

fn choose_form(
    kind: CurvatureKind,
    wished: Option<CurvatureForm>,
    rows: u64,
    parameters: u64,
) -> Result<CurvatureForm, GradientError> {
    let is_direct = matches!(kind, CurvatureKind::Identity | CurvatureKind::Diagonal);
    let form = match wished {
        Some(form) if (form == CurvatureForm::Direct) != is_direct => {
            return Err(GradientError::mismatch(format!("{} has no {} form", kind.name(), form.name())));
        }
        Some(form) => form,
        None if is_direct => CurvatureForm::Direct,
        None if rows <= DUAL_ROWS_MAX.min(parameters) => CurvatureForm::Dual,
        None if parameters <= PRIMAL_PARAMETERS_MAX => CurvatureForm::Primal,
        None => CurvatureForm::Landmarks,
    };
    let reason = match form {
        CurvatureForm::Dual if rows > DUAL_ROWS_MAX => format!(
            "{rows} rows are too many for the dual form (at most {DUAL_ROWS_MAX}): take the landmarks form"
        ),
        CurvatureForm::Primal if parameters > PRIMAL_PARAMETERS_MAX => {
            format!(
                "{parameters} parameters are too many for the primal form (at most {PRIMAL_PARAMETERS_MAX})"
            )
        }
        _ => return Ok(form),
    };
    Err(GradientError::mismatch(reason))
}

fn no_rows(rows: &GradientRows<'_>, (kind, form): (CurvatureKind, CurvatureForm)) -> FitInput {
    let layout = rows.schema.layout();
    FitInput {
        kind,
        form,
        members: (0..layout.members()).map(|_| (MemberGradients::empty(layout), Vec::new())).collect(),
        keys: Vec::new(),
        prints: Vec::new(),
        zero_rows: 0,
        sums: None,
        landmarks: Vec::new(),
        landmark_rows: (Vec::new(), Vec::new()),
    }
}

fn read_gradients(
    rows: &GradientRows<'_>,
    (kind, form): (CurvatureKind, CurvatureForm),
    watch: Watch<'_>,
) -> Result<FitInput, GradientError> {
    let layout = rows.schema.layout();
    let mut input = no_rows(rows, (kind, form));
    let mut decoded = crate::sketch::SketchRows::default();
    for segment in &rows.segments {
        for row in segment.view.iter_live() {
            if watch.cancel.is_cancelled() {
                return Err(GradientError::Cancelled);
            }
            read_rows(&mut decoded, segment.file, layout, row, 1)?;
            let outcome = decoded.outcome(layout, 0);
            let is_zero = layout.is_zero(&decoded.values);
            let weights = row_weights(kind, layout.members(), outcome.as_ref(), is_zero)
                .ok_or_else(|| without_outcome(segment, row))?;
            for (member, (own, weight)) in input.members.iter_mut().zip(weights).enumerate() {
                own.0.push(layout, member as u32, &decoded, 0);
                own.1.push(weight);
            }
            input.zero_rows += u64::from(is_zero);
            input.keys.push(segment.view.segment.rows.key(row)?.to_owned());
            input.prints.push(GradientRows::print(segment, row)?);
        }
    }
    Ok(input)
}

/// How far scores through landmarks are from those of the whole inverse, of the first member and some rows as questions.
fn landmark_error(input: &FitInput, fits: &[MemberFit]) -> Result<Option<f64>, GradientError> {
    let (Some((gradients, weights)), Some(MemberFit::Landmarks(fit))) = (input.members.first(), fits.first())
    else {
        return Ok(None);
    };
    let rows = drawn_numbers(gradients.rows() as u64, ERROR_ROWS, LANDMARK_SEED ^ 1);
    let rows: Vec<usize> = rows.map(|row| row as usize).collect();
    let error = fit.error(gradients, weights, &input.landmarks, &rows);
    error.map(Some).map_err(|source| GradientError::Curvature { member: 0, source })
}

/// Draws the rows that stand for all of them, and keeps their gradients for the file: they may be deleted later.
fn choose_landmarks(
    rows: &GradientRows<'_>,
    input: &mut FitInput,
    count: usize,
) -> Result<(), GradientError> {
    let drawn = drawn_numbers(input.keys.len() as u64, count.max(1), LANDMARK_SEED);
    let mut order: Vec<usize> = drawn.map(|number| number as usize).collect();
    order.sort_unstable();
    let live: Vec<(&GradientSegment<'_>, RowId)> = rows
        .segments
        .iter()
        .flat_map(|segment| segment.view.iter_live().map(move |row| (segment, row)))
        .collect();
    let mut decoded = crate::sketch::SketchRows::default();
    for number in &order {
        let Some((segment, row)) = live.get(*number) else { continue };
        read_rows(&mut decoded, segment.file, rows.schema.layout(), *row, 1)?;
        input.landmark_rows.0.extend(decoded.values.iter().flat_map(|value| value.to_le_bytes()));
        input.landmark_rows.1.extend(decoded.terms.iter().flat_map(|term| term.to_le_bytes()));
    }
    input.landmarks = order;
    Ok(())
}
