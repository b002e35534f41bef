//! Fitting a curvature to the gradients of a column.

use rayon::prelude::*;

use super::code_layout::CodeBits;
use super::curvature::OpenCurvature;
use super::fit_codes::fit_codes;
use super::fit_file::{Beside, FactorsOrigin, FileParts, FitHead, FitInput, MemberFit};
use super::fit_input::gather;
use super::fit_lengths::fit_lengths;
use super::fit_options::{CodesReport, FitOptions, FitReport};
use super::gradient_error::GradientError;
use super::gradient_query::{GradientInput, GradientQuery};
use super::gradient_rows::GradientRows;
use super::options::Watch;
use super::snapshot::Snapshot;
use super::store::Store;
use crate::base::{ColumnId, CommitSeq, drawn_numbers};
use crate::curvature::{
    CurvatureForm, CurvatureKind, DiagonalFit, DualFit, KroneckerEigenvalues, KroneckerFit, LandmarkFit,
    PrimalFit,
};
use crate::format::CurvatureRecord;
use crate::storage::{CURVATURE_FOLDER, FileError, SimulatedStorage, Storage, write_curvature_file};

/// Rows that are asked about to tell the error of landmarks.
const ERROR_ROWS: usize = 2;

/// Decides which rows these are.
const ERROR_SEED: u64 = 0x6c61_6e64_6d61_726a;

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
            let codes =
                input.codes.map(|wanted| fit_codes(&input, &fits, wanted, watch.cancel)).transpose()?;
            let lengths = fit_lengths(&input, &fits, watch.cancel)?;
            let beside = Beside { lengths, codes: codes.unwrap_or_default() };
            Ok::<_, GradientError>((landmark_error(&input, &fits)?, beside))
        });
        watch.progress.end();
        let (landmark_error, beside) = told?;
        let head = head_of(&rows, &input, &fits, &beside);
        let damping = head.damping.clone();
        let codes = beside.codes.first().map(|codes| CodesReport {
            coordinates: codes.layout.coordinates(),
            bits: codes.layout.bits(),
            share: codes.leading.as_ref().map_or(1.0, |leading| leading.share),
        });
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
            factors: head.factors,
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
        factors: input.kind.kronecker().map(|_| match input.factors {
            Some(_) => FactorsOrigin::Own,
            None => FactorsOrigin::Sketches,
        }),
        landmarks: input.landmarks.len(),
        codes: beside.codes.first().map_or(0, |codes| codes.layout.coordinates()),
        code_bits: beside.codes.first().map_or(CodeBits::Eight, |codes| codes.layout.bits()),
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
        let options = FitOptions { codes: None, code_bits: CodeBits::Eight, ..options.clone() };
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
        let kronecker = |eigenvalues| {
            let factors = input.factors.as_ref().and_then(|factors| factors.get(member));
            let fitted = KroneckerFit::fit(gradients, factors.map(Vec::as_slice), eigenvalues, ratio);
            fitted.map(MemberFit::Kronecker)
        };
        let fitted = match (input.kind, input.form, sums) {
            (CurvatureKind::Identity, _, _) => Ok(MemberFit::Nothing),
            (CurvatureKind::Kfac, _, _) => kronecker(KroneckerEigenvalues::Products),
            (CurvatureKind::Ekfac, _, _) => kronecker(KroneckerEigenvalues::Measured),
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

/// How far scores through landmarks are from those of the whole inverse, of the first member and some rows as questions.
fn landmark_error(input: &FitInput, fits: &[MemberFit]) -> Result<Option<f64>, GradientError> {
    let (Some((gradients, weights)), Some(MemberFit::Landmarks(fit))) = (input.members.first(), fits.first())
    else {
        return Ok(None);
    };
    let rows = drawn_numbers(gradients.rows() as u64, ERROR_ROWS, ERROR_SEED);
    let rows: Vec<usize> = rows.map(|row| row as usize).collect();
    let error = fit.error(gradients, weights, &input.landmarks, &rows);
    error.map(Some).map_err(|source| GradientError::Curvature { member: 0, source })
}
