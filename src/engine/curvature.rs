//! A fitted curvature, ready to weigh the gradients of a snapshot's rows.

use std::sync::{Arc, OnceLock};

use super::answer::curvature_title;
use super::fit_file::FitHead;
use super::gradient_error::GradientError;
use super::gradient_rows::GradientRows;
use super::member_codes::OpenCodes;
use super::rows_of_fit::RowsOfFit;
use super::snapshot::Snapshot;
use crate::curvature::{
    CurvatureForm, CurvatureKind, DualRemoval, DualSolver, KroneckerFit, LandmarkFit, LandmarkLengths,
    MemberGradients, RowWeights, SymmetricView,
};
use crate::format::{CurvatureRecord, curvature_section};
use crate::sketch::SketchRows;
use crate::storage::{FileError, SealedFile, Storage, open_curvature_file};

/// The rows that a dual form was fitted to.
pub(super) struct FittedRows {
    of_fit: RowsOfFit,
    /// Their gradients, member by member; zero where they are missing.
    gradients: Vec<MemberGradients>,
    /// What each of them is multiplied by, member by member.
    factors: Vec<Vec<f64>>,
    /// What takes the missing ones out, member by member.
    removals: Vec<DualRemoval>,
}

impl FittedRows {
    /// Number in the fit of the row at a place.
    pub(super) fn number(&self, place: usize) -> Option<usize> {
        self.of_fit.number(place)
    }

    /// Place of each row of the fit.
    pub(super) fn places(&self) -> &[Option<usize>] {
        self.of_fit.places()
    }

    /// Rows of the fit that are still there.
    pub(super) fn rows(&self) -> usize {
        self.of_fit.rows()
    }

    pub(super) fn gradients(&self, member: usize) -> &MemberGradients {
        &self.gradients[member]
    }

    pub(super) fn factors(&self, member: usize) -> &[f64] {
        &self.factors[member]
    }
}

/// A fitted curvature and the rows of one snapshot.
pub(super) struct OpenCurvature {
    pub(super) record: CurvatureRecord,
    pub(super) kind: CurvatureKind,
    pub(super) form: CurvatureForm,
    pub(super) head: FitHead,
    pub(super) file: Arc<SealedFile>,
    /// Values of the diagonal, member by member.
    diagonal: Vec<Vec<f64>>,
    /// Kronecker products, member by member.
    kronecker: Vec<KroneckerFit>,
    fitted: Option<FittedRows>,
    /// Of other forms the rows of the fit, once they were asked for.
    of_fit: OnceLock<RowsOfFit>,
    /// Gradients of the landmarks and what each is multiplied by, member by member.
    landmarks: Vec<(MemberGradients, Vec<f64>)>,
    /// What tells lengths through them, member by member, once it was asked for.
    landmark_lengths: OnceLock<Vec<LandmarkLengths>>,
    /// What each place weighs, member by member; empty for kinds that weigh all alike.
    weights: Vec<Vec<RowWeights>>,
    /// Squared lengths of whitened gradients, member by member, once they were asked for.
    pub(super) lengths: OnceLock<Vec<Vec<f64>>>,
    /// What compares by codes, once it was asked for.
    pub(super) codes: OnceLock<OpenCodes>,
}

impl std::fmt::Debug for OpenCurvature {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "OpenCurvature({})", self.record.version)
    }
}

impl Snapshot {
    /// The curvature of a column: the newest, or the newest of a kind.
    pub(super) fn curvature(
        &self,
        rows: &GradientRows<'_>,
        kind: Option<CurvatureKind>,
    ) -> Result<Arc<OpenCurvature>, GradientError> {
        let known = self.inner.state.store.curvatures.iter();
        let mut of_column = known.filter(|record| record.column == rows.column.id);
        let chosen = of_column.rfind(|record| kind.is_none_or(|kind| record.kind == kind.name()));
        let Some(record) = chosen else {
            let name = &rows.column.name;
            let what = kind
                .map_or_else(|| "no curvature".to_owned(), |kind| format!("no {} curvature", kind.name()));
            return Err(GradientError::mismatch(format!(
                "{what} is fitted to the gradients of column {name:?} yet: run \"ascribe fit\" first"
            )));
        };
        let storage = self.inner.context.storage.as_ref();
        self.inner.curvatures.get(record.version, || OpenCurvature::open(storage, rows, record))
    }
}

impl OpenCurvature {
    pub(super) fn open(
        storage: &dyn Storage,
        rows: &GradientRows<'_>,
        record: &CurvatureRecord,
    ) -> Result<Self, GradientError> {
        let file = Arc::new(open_curvature_file(storage, record.version, record.column, record.file)?);
        let head = FitHead::read(&file)?;
        let (Some(kind), Some(form)) =
            (CurvatureKind::from_name(&head.kind), CurvatureForm::from_name(&head.form))
        else {
            return Err(file
                .content_error(format!(
                    "it is a {} in {} form, which this version does not know",
                    head.kind, head.form
                ))
                .into());
        };
        if head.schema != rows.schema.fingerprint().to_string() {
            return Err(file.content_error("it was fitted to gradients of another schema").into());
        }
        let members = rows.schema.members() as usize;
        let empty = MemberGradients::empty(rows.schema.layout());
        let diagonal: Vec<Vec<f64>> = match kind {
            CurvatureKind::Diagonal | CurvatureKind::Kfac | CurvatureKind::Ekfac => {
                let values = numbers(file.whole(curvature_section::DIAGONAL)?);
                if values.len() as u64 != empty.parameters() * members as u64 {
                    return Err(file.content_error("its diagonal has another length").into());
                }
                values.chunks(values.len() / members.max(1)).map(<[f64]>::to_vec).collect()
            }
            _ => Vec::new(),
        };
        let mut opened = Self {
            record: record.clone(),
            kind,
            form,
            head,
            file,
            diagonal,
            kronecker: Vec::new(),
            fitted: None,
            of_fit: OnceLock::new(),
            landmarks: Vec::new(),
            landmark_lengths: OnceLock::new(),
            weights: Vec::new(),
            lengths: OnceLock::new(),
            codes: OnceLock::new(),
        };
        if kind.kronecker().is_some() {
            opened.kronecker = opened.kronecker_fits(&empty)?;
        }
        if kind.is_weighted() {
            opened.weights = row_weights(rows, kind)?;
        }
        if form != CurvatureForm::Direct {
            opened.check_dampings(members)?;
        }
        if matches!(form, CurvatureForm::Dual | CurvatureForm::Primal) {
            let order = if form == CurvatureForm::Dual { record.rows } else { empty.parameters() };
            opened.check_inverses(order, members)?;
        }
        if form == CurvatureForm::Landmarks {
            opened.landmarks = opened.landmark_rows(rows)?;
        }
        if form == CurvatureForm::Dual {
            opened.fitted = Some(opened.fitted_rows(rows)?);
        }
        Ok(opened)
    }

    /// Reads the Kronecker products of all members, of gradients like `like`.
    fn kronecker_fits(&mut self, like: &MemberGradients) -> Result<Vec<KroneckerFit>, FileError> {
        let bases = self.numbers(curvature_section::BASES)?;
        let divisors = std::mem::take(&mut self.diagonal);
        let members = divisors.len().max(1);
        let size = bases.len() / members;
        let fits = divisors.iter().enumerate().map(|(member, divisors)| {
            let dampings = self.head.damping.get(member).filter(|_| bases.len() == size * members)?;
            KroneckerFit::of_values(like, dampings, bases.get(member * size..(member + 1) * size)?, divisors)
        });
        let fits: Option<Vec<KroneckerFit>> = fits.collect();
        fits.ok_or_else(|| self.file.content_error("its bases or eigenvalues are not those of its column"))
    }

    /// Checks that something was added to each member's diagonal.
    fn check_dampings(&self, members: usize) -> Result<(), FileError> {
        let is_damped =
            |own: &Vec<f64>| matches!(own.as_slice(), [damping] if *damping > 0.0 && damping.is_finite());
        match self.head.damping.len() == members && self.head.damping.iter().all(is_damped) {
            true => Ok(()),
            false => Err(self.file.content_error("it has not one damping for each member")),
        }
    }

    /// Checks that there is an inverse of so many rows for each member.
    fn check_inverses(&self, order: u64, members: usize) -> Result<(), FileError> {
        let bytes = order.checked_mul(order).and_then(|values| values.checked_mul(4 * members as u64));
        for tag in [curvature_section::INVERSE, curvature_section::INVERSE_REST] {
            if Some(self.bytes(tag)?.len() as u64) != bytes {
                return Err(self
                    .file
                    .content_error(format!("it has not an inverse of {order} rows for each member")));
            }
        }
        Ok(())
    }

    /// Reads the landmarks.
    fn landmark_rows(
        &self,
        rows: &GradientRows<'_>,
    ) -> Result<Vec<(MemberGradients, Vec<f64>)>, GradientError> {
        let layout = rows.schema.layout();
        let count = self.head.landmarks;
        let members = layout.members() as usize;
        let factors = self.numbers(curvature_section::WEIGHTS)?;
        let landmarks = self.landmark_gradients(rows, &factors)?;
        // From here on the number of landmarks is known to be that of a file's bytes.
        let parameters = MemberGradients::empty(layout).parameters() as usize;
        let lengths = [
            (self.bytes(curvature_section::MIXING)?.len(), 8 * members * count * count),
            (self.bytes(curvature_section::SUMS)?.len(), 4 * members * count * parameters),
        ];
        if lengths.iter().any(|(found, expected)| found != expected) {
            return Err(self.file.content_error("its landmarks do not fit its column").into());
        }
        Ok(landmarks)
    }

    /// The landmarks' gradients with their factors, member by member.
    pub(super) fn landmark_gradients(
        &self,
        rows: &GradientRows<'_>,
        factors: &[f64],
    ) -> Result<Vec<(MemberGradients, Vec<f64>)>, FileError> {
        let layout = rows.schema.layout();
        let count = self.head.landmarks;
        let bytes = self.bytes(curvature_section::LANDMARKS)?;
        let unlike = || self.file.content_error("its landmarks do not fit its column");
        let split = bytes.split_at_checked(count.saturating_mul(4 * layout.width()));
        let (values, terms) = split.filter(|_| count > 0).ok_or_else(unlike)?;
        if terms.len() != 4 * count * layout.terms_a_row()
            || factors.len() != count * layout.members() as usize
        {
            return Err(unlike());
        }
        let decoded = SketchRows {
            values: values.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect(),
            terms: terms.as_chunks::<4>().0.iter().map(|term| u32::from_le_bytes(*term)).collect(),
            outcomes: Vec::new(),
        };
        decoded
            .check_finite(layout)
            .and_then(|()| decoded.check_terms(layout))
            .map_err(|reason| self.file.content_error(format!("its landmarks: {reason}")))?;
        let of_member = |(member, factors): (usize, &[f64])| {
            let mut gradients = MemberGradients::empty(layout);
            (0..count).for_each(|row| gradients.push(layout, member as u32, &decoded, row));
            (gradients, factors.to_vec())
        };
        Ok(factors.chunks(count).enumerate().map(of_member).collect())
    }

    /// The landmarks' gradients of a member, and what each counts for in the direction of a gradient.
    pub(super) fn landmark_weights(
        &self,
        member: usize,
        asked: &MemberGradients,
        row: usize,
    ) -> Result<Option<(&MemberGradients, Vec<f64>)>, FileError> {
        let Some((gradients, factors)) = self.landmarks.get(member) else { return Ok(None) };
        let (count, parameters) = (factors.len(), gradients.parameters() as usize);
        let mixing = self.bytes(curvature_section::MIXING)?.as_chunks::<8>().0;
        let sums = self.bytes(curvature_section::SUMS)?.as_chunks::<4>().0;
        // Their lengths were checked when the file was opened.
        let mixing = &mixing[member * count * count..(member + 1) * count * count];
        let sums = &sums[member * count * parameters..(member + 1) * count * parameters];
        Ok(Some((gradients, LandmarkFit::landmark_weights(factors, mixing, sums, asked, row))))
    }

    /// Finds the rows of a dual fit, and reads their gradients.
    fn fitted_rows(&self, rows: &GradientRows<'_>) -> Result<FittedRows, GradientError> {
        let count = self.record.rows as usize;
        let layout = rows.schema.layout();
        let members = layout.members() as usize;
        let factors = self.numbers(curvature_section::WEIGHTS)?;
        if factors.len() != count * members {
            return Err(self.file.content_error("it has not one factor for each row").into());
        }
        let of_fit = self.find_rows(rows)?;
        let zero = SketchRows {
            values: vec![0.0; layout.width()],
            terms: vec![crate::format::SPARSE_PADDING; layout.terms_a_row()],
            outcomes: Vec::new(),
        };
        let mut gradients: Vec<MemberGradients> =
            (0..members).map(|_| MemberGradients::empty(layout)).collect();
        for place in of_fit.places() {
            let decoded = place.map(|place| rows.row(place)).transpose()?.flatten();
            for (member, gradients) in gradients.iter_mut().enumerate() {
                gradients.push(layout, member as u32, decoded.as_ref().unwrap_or(&zero), 0);
            }
        }
        let mut removals = Vec::with_capacity(members);
        for member in 0..members {
            let removal = DualRemoval::new(self.inverse(member)?, of_fit.missing().to_vec());
            removals.push(removal.map_err(|source| GradientError::Curvature { member, source })?);
        }
        let factors = factors.chunks(count.max(1)).map(<[f64]>::to_vec).collect();
        Ok(FittedRows { of_fit, gradients, factors, removals })
    }

    /// Bytes of a section.
    pub(super) fn bytes(&self, tag: u32) -> Result<&[u8], FileError> {
        self.file.whole(tag)
    }

    /// Values of a section of f64 values.
    pub(super) fn numbers(&self, tag: u32) -> Result<Vec<f64>, FileError> {
        Ok(numbers(self.bytes(tag)?))
    }

    /// The rows of the fit.
    pub(super) fn rows_of_fit(&self, rows: &GradientRows<'_>) -> Result<&RowsOfFit, FileError> {
        if let Some(fitted) = &self.fitted {
            return Ok(&fitted.of_fit);
        }
        if let Some(known) = self.of_fit.get() {
            return Ok(known);
        }
        let found = self.find_rows(rows)?;
        Ok(self.of_fit.get_or_init(|| found))
    }

    fn find_rows(&self, rows: &GradientRows<'_>) -> Result<RowsOfFit, FileError> {
        let count = self.record.rows as usize;
        // What was fitted is what is there: rows need not be looked for.
        if rows.snapshot.commit() == self.record.commit && rows.live_rows() == self.record.rows {
            return Ok(RowsOfFit::all(rows));
        }
        RowsOfFit::find(&self.file, count, rows)
    }

    /// Lengths of the rows of the fit as they were kept, member by member; `None` if they were not, as those of the dual form.
    pub(super) fn stored_lengths(&self, members: usize) -> Result<Option<Vec<Vec<f64>>>, FileError> {
        if self.file.section(curvature_section::LENGTHS).is_none() {
            return Ok(None);
        }
        let lengths = self.numbers(curvature_section::LENGTHS)?;
        let count = self.record.rows as usize;
        let is_length = |value: &f64| value.is_finite() && *value >= 0.0;
        if count == 0 || lengths.len() != count * members || !lengths.iter().all(is_length) {
            return Err(self.file.content_error("it has not one length for each row and member"));
        }
        Ok(Some(lengths.chunks(count).map(<[f64]>::to_vec).collect()))
    }

    /// What landmarks make of the squared lengths of some gradients of a member, by the kernel and its damping.
    pub(super) fn landmark_lengths(
        &self,
        member: usize,
        gradients: &MemberGradients,
    ) -> Result<Vec<f64>, GradientError> {
        let known = match self.landmark_lengths.get() {
            Some(known) => known,
            None => {
                let mixing = self.bytes(curvature_section::MIXING)?.as_chunks::<8>().0;
                let open = |(member, (chosen, factors)): (usize, &(MemberGradients, Vec<f64>))| {
                    let size = factors.len() * factors.len();
                    // Its length was checked when the file was opened.
                    let mixing = &mixing[member * size..(member + 1) * size];
                    LandmarkLengths::new(chosen, factors, mixing, self.damping(member))
                        .map_err(|source| GradientError::Curvature { member, source })
                };
                let opened = self.landmarks.iter().enumerate().map(open).collect::<Result<_, _>>()?;
                self.landmark_lengths.get_or_init(|| opened)
            }
        };
        let known = known.get(member).zip(self.landmarks.get(member));
        let (lengths, (chosen, factors)) =
            known.ok_or_else(|| self.file.content_error("it has no landmarks of a member"))?;
        Ok(lengths.squared((chosen, factors), gradients))
    }

    /// c times a member's inverse.
    pub(super) fn inverse(&self, member: usize) -> Result<SymmetricView<'_>, FileError> {
        let members = self.head.damping.len().max(1);
        let of_member = |tag: u32| {
            let values = self.bytes(tag)?.as_chunks::<4>().0;
            let size = values.len() / members;
            let own = values.get(member * size..(member + 1) * size);
            own.ok_or_else(|| self.file.content_error("it has not one inverse for each member"))
        };
        let (high, low) =
            (of_member(curvature_section::INVERSE)?, of_member(curvature_section::INVERSE_REST)?);
        // Their lengths were checked when the file was opened.
        Ok(SymmetricView { size: high.len().isqrt(), high, low })
    }

    /// What solves over the rows of a dual fit.
    pub(super) fn solver(&self, member: usize) -> Result<DualSolver<'_>, FileError> {
        let removal = self.fitted.as_ref().and_then(|fitted| fitted.removals.get(member));
        Ok(DualSolver { damping: self.damping(member), inverse: self.inverse(member)?, removal })
    }

    /// What was added to the diagonal of a member's matrix.
    pub(super) fn damping(&self, member: usize) -> f64 {
        self.head.damping.get(member).and_then(|values| values.first()).copied().unwrap_or(1.0)
    }

    /// The rows of a dual fit.
    pub(super) fn fitted(&self) -> Option<&FittedRows> {
        self.fitted.as_ref()
    }

    /// Values of a member's diagonal.
    pub(super) fn diagonal(&self, member: usize) -> &[f64] {
        self.diagonal.get(member).map(Vec::as_slice).unwrap_or_default()
    }

    /// A member's Kronecker products.
    pub(super) fn kronecker(&self, member: usize) -> Result<&KroneckerFit, FileError> {
        let own = self.kronecker.get(member);
        own.ok_or_else(|| self.file.content_error("it has no Kronecker products of a member"))
    }

    /// What the row at a place weighs.
    pub(super) fn weights(&self, member: usize, place: usize) -> RowWeights {
        let own = self.weights.get(member).and_then(|weights| weights.get(place)).copied();
        own.unwrap_or_else(RowWeights::none)
    }

    /// Name for answers, such as `margin (dual), version 3`, and what has changed since it was fitted.
    pub(super) fn title_now(&self, rows: &GradientRows<'_>) -> Result<String, FileError> {
        let mut title = curvature_title(&self.record.kind, &self.record.form, self.record.version);
        let of_fit = self.rows_of_fit(rows)?;
        let (gone, new) = (of_fit.missing().len(), rows.live_rows().saturating_sub(of_fit.rows() as u64));
        if gone > 0 || new > 0 {
            title.push_str(&format!("; {new} rows came and {gone} left since it was fitted"));
        }
        // Rows leave the dual form at once.
        if gone > 0 && self.fitted.is_none() && self.kind != CurvatureKind::Identity {
            title.push_str(": to take them out of it, fit again");
        }
        Ok(title)
    }
}

fn numbers(bytes: &[u8]) -> Vec<f64> {
    bytes.as_chunks::<8>().0.iter().map(|value| f64::from_le_bytes(*value)).collect()
}

/// Weights of all places, member by member; those of deleted rows count for nothing.
fn row_weights(rows: &GradientRows<'_>, kind: CurvatureKind) -> Result<Vec<Vec<RowWeights>>, GradientError> {
    let layout = rows.schema.layout();
    let members = layout.members() as usize;
    let mut weights = vec![vec![RowWeights::none(); rows.places]; members];
    for segment in &rows.segments {
        for row in segment.view.iter_live() {
            let place = segment.first + row.0 as usize;
            let Some(outcome) = segment.outcome(layout, row)? else {
                // Whatever it weighs, a gradient of zeros scores 0.
                if rows.row(place)?.is_some_and(|decoded| layout.is_zero(&decoded.values)) {
                    continue;
                }
                let key = segment.view.segment.rows.key(row)?;
                return Err(GradientError::mismatch(format!(
                    "the row with key {key:?} came without the probability of its own label (\"own\" in the sketch file), which {} needs: import it with one, or ask with another curvature",
                    kind.name()
                )));
            };
            for (own, weights) in outcome.own.iter().zip(&mut weights) {
                weights[place] = kind.weights(*own, outcome.trained).unwrap_or_else(RowWeights::none);
            }
        }
    }
    Ok(weights)
}
