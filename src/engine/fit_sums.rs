//! What the gradients of all live rows add up to, segment by segment.
//!
//! Sums over all rows of a segment are kept beside its column file, so that a fit after rows came or left adds up new and
//! deleted rows only. Segments whose sums are worth that are added up each by itself, whether a file is there or not, so that
//! both give the same bits as long as no row is deleted; the rows of all others are added up as if they were one segment.

use rayon::prelude::*;

use super::gradient_error::GradientError;
use super::gradient_rows::{GradientRows, GradientSegment, read_rows};
use super::segment::SegmentView;
use super::snapshot::Snapshot;
use crate::base::{Cancel, RowId, RowSet};
use crate::curvature::{CurvatureForm, CurvatureKind, GradientSums, MemberGradients, RowWeights};
use crate::format::{FileRecord, SumsHeader, SumsKind};
use crate::sketch::{Outcome, SketchRows};
use crate::storage::{FileError, SumsFile, write_sums_file};

/// Rows whose gradients are in memory at a time, at most.
const BLOCK_ROWS: usize = 256;

/// Values of these rows, at most: 4 MiB.
const BLOCK_VALUES: usize = 1 << 20;

/// What a fit took from sums that were kept, and what it read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FitSums {
    /// Segments with live rows.
    pub segments: usize,
    /// Segments whose sums were kept.
    pub kept: usize,
    /// Live rows of other segments: they were read and added up.
    pub rows_added: u64,
    /// Deleted rows of segments whose sums were kept: they were read and taken away.
    pub rows_taken_away: u64,
    /// What kept new sums from being written, if anything did; the fit does without.
    pub unwritten: Option<String>,
}

/// Sums over the gradients of all live rows.
pub(super) struct SummedRows {
    /// Member by member.
    pub(super) members: Vec<GradientSums>,
    pub(super) report: FitSums,
}

/// The sums that a curvature is fitted to; `None` if it needs the gradients themselves.
pub(super) fn sums_kind(kind: CurvatureKind, form: CurvatureForm) -> Option<SumsKind> {
    match (kind, form) {
        (CurvatureKind::Diagonal, _) => Some(SumsKind::Diagonal),
        (CurvatureKind::Fisher, CurvatureForm::Primal) => Some(SumsKind::Fisher),
        (CurvatureKind::Trak, CurvatureForm::Primal) => Some(SumsKind::Trak),
        (CurvatureKind::Margin, CurvatureForm::Primal) => Some(SumsKind::Margin),
        _ => None,
    }
}

/// What a row weighs in a fit, member by member; `None` if the kind needs what was not measured of it.
pub(super) fn row_weights(
    kind: CurvatureKind,
    members: u32,
    outcome: Option<&Outcome>,
    is_zero: bool,
) -> Option<Vec<RowWeights>> {
    let none = || vec![RowWeights::none(); members as usize];
    match outcome {
        _ if !kind.is_weighted() => Some(none()),
        Some(outcome) => {
            let own = |member| outcome.own.get(member).copied().unwrap_or(0.0);
            (0..members as usize).map(|member| kind.weights(own(member), outcome.trained)).collect()
        }
        // Whatever it weighs, it scores 0.
        None => is_zero.then(none),
    }
}

/// A row that a kind with weights cannot be fitted to.
pub(super) fn without_outcome(
    kind: CurvatureKind,
    segment: &GradientSegment<'_>,
    row: RowId,
) -> GradientError {
    match segment.view.segment.rows.key(row) {
        Ok(key) => GradientError::mismatch(format!(
            "{} needs the probability of each row's own label (\"own\" in the sketch file), which the row with key {key:?} does not have: import it with its sketch, or fit fisher",
            kind.name()
        )),
        Err(error) => error.into(),
    }
}

/// Adds up the gradients of all live rows. Sums that are worth a file are kept in one if `keeps`, which only a writer may
/// say.
///
/// # Errors
/// Rows are damaged, lack what margin needs, or the work was cancelled. Files of sums that are damaged, or cannot be
/// written, are no error.
///
/// # Complexity
/// O(rows x values of the sums) for rows of segments without kept sums and for deleted rows of others; memory for a block of
/// rows and for the sums of all members, three times at most.
pub(super) fn sum_rows(
    snapshot: &Snapshot,
    rows: &GradientRows<'_>,
    (kind, sums): (CurvatureKind, SumsKind),
    keeps: bool,
    cancel: &Cancel,
) -> Result<SummedRows, GradientError> {
    let empty = MemberGradients::empty(rows.schema.layout());
    let summing = Summing { snapshot, rows, kind, sums, empty, keeps, cancel };
    let mut total = summing.begin(Change::Add, summing.nothing()?);
    let mut report = FitSums::default();
    for segment in rows.segments.iter().filter(|segment| segment.view.live_rows() > 0) {
        report.segments += 1;
        match summing.file_of(segment) {
            Some(file) => {
                let own = summing.segment(segment, &file, &mut report)?;
                total.sums.iter_mut().zip(&own).for_each(|(total, own)| total.merge(own));
            }
            None => {
                summing.add_live(&mut total, segment)?;
                report.rows_added += segment.view.live_rows();
            }
        }
    }
    let total = total.end();
    Ok(SummedRows { members: total, report })
}

/// Sums over some rows, member by member.
type Sums = Vec<GradientSums>;

/// What is done with rows.
#[derive(Clone, Copy, PartialEq)]
enum Change {
    Add,
    TakeAway,
}

/// Sums that rows are added to or taken away from, block by block.
struct Changing {
    sums: Sums,
    change: Change,
    /// Gradients of the block that is not full yet and what each weighs, member by member.
    block: Vec<(MemberGradients, Vec<RowWeights>)>,
}

impl Changing {
    /// Does what is to be done with the rows of the block.
    fn empty_block(&mut self, empty: &MemberGradients) {
        let change = self.change;
        self.sums.par_iter_mut().zip(&mut self.block).for_each(|(sums, block)| {
            let (gradients, weights) = std::mem::replace(block, (empty.clone(), Vec::new()));
            match change {
                Change::Add => sums.add(&gradients, &weights),
                Change::TakeAway => sums.subtract(&gradients, &weights),
            }
        });
    }

    /// The sums, once the last block is done too.
    fn end(mut self) -> Sums {
        let empty = MemberGradients::new(0, Vec::new());
        self.empty_block(&empty);
        self.sums
    }
}

/// The sums file of a segment: what it must say of itself, and which column file it must be made from.
type FileOf = (SumsHeader, FileRecord);

/// What was found beside a column file.
enum Kept {
    Nothing,
    /// Sums of live rows, after the deleted ones were taken away.
    Sums(Sums),
    /// Sums of which the deleted rows were so much that what is left has lost digits.
    Spent,
}

struct Summing<'a> {
    snapshot: &'a Snapshot,
    rows: &'a GradientRows<'a>,
    kind: CurvatureKind,
    sums: SumsKind,
    /// No rows of the column.
    empty: MemberGradients,
    keeps: bool,
    cancel: &'a Cancel,
}

impl Summing<'_> {
    /// Sums over no rows.
    fn nothing(&self) -> Result<Sums, GradientError> {
        let of_member = |member: usize| match self.sums {
            SumsKind::Diagonal => Ok(GradientSums::squares(&self.empty)),
            SumsKind::Fisher | SumsKind::Trak | SumsKind::Margin => GradientSums::outer_products(&self.empty)
                .map_err(|source| GradientError::Curvature { member, source }),
        };
        let members = (0..self.rows.schema.members() as usize).map(of_member);
        members.collect()
    }

    /// The file that the sums of a segment's rows are worth, if they are. They are not where more than half of the rows are
    /// deleted: the live ones are then read sooner, and their sums lose no digits.
    fn file_of(&self, segment: &GradientSegment<'_>) -> Option<FileOf> {
        let (view, column) = (segment.view, segment.file.header());
        let header = SumsHeader::of_column(column, self.sums, self.empty.parameters());
        let rows_min = self.snapshot.inner.context.sums_rows_min;
        let is_mostly_there = view.live_rows() >= view.deleted.len();
        let mut records = view.segment.record.columns.iter();
        let origin = records.find(|record| record.column == column.column)?.file;
        let is_worth_it = is_mostly_there && is_worth_a_file(&header, column.values_length(), rows_min);
        is_worth_it.then_some((header, origin))
    }

    /// The sums of a segment's live rows, from its file if there is one; otherwise one is made, if they are to be kept.
    fn segment(
        &self,
        segment: &GradientSegment<'_>,
        file: &FileOf,
        report: &mut FitSums,
    ) -> Result<Sums, GradientError> {
        let kept = self.kept(segment, file)?;
        if let Kept::Sums(sums) = kept {
            report.kept += 1;
            report.rows_taken_away += segment.view.deleted.len();
            return Ok(sums);
        }
        let mut live = self.begin(Change::Add, self.nothing()?);
        self.add_live(&mut live, segment)?;
        let live = live.end();
        report.rows_added += segment.view.live_rows();
        if let Kept::Nothing = kept
            && self.keeps
            && let Err(error) = self.keep(segment, file, &live)?
        {
            report.unwritten = Some(error.to_string());
        }
        Ok(live)
    }

    /// What the file beside a segment's column says of its live rows. A damaged one says nothing.
    fn kept(&self, segment: &GradientSegment<'_>, file: &FileOf) -> Result<Kept, GradientError> {
        let Some(sums) = self.read(file) else { return Ok(Kept::Nothing) };
        let before: Vec<Vec<f64>> = sums.iter().map(GradientSums::traces).collect();
        let Some(sums) = self.with_deleted(Change::TakeAway, sums, segment)? else { return Ok(Kept::Spent) };
        let keeps_half = sums.iter().zip(&before).all(|(left, before)| left.keeps_half_of(before));
        Ok(if keeps_half { Kept::Sums(sums) } else { Kept::Spent })
    }

    /// The sums of all rows of a segment, as they stand in its file.
    fn read(&self, (header, origin): &FileOf) -> Option<Sums> {
        let storage = self.snapshot.inner.context.storage.as_ref();
        let file = SumsFile::open(storage, header, *origin).ok()??;
        let mut sums = Sums::new();
        for (member, nothing) in self.nothing().ok()?.into_iter().enumerate() {
            let values = file.member(member as u32).ok()?;
            sums.push(nothing.of_values(u64::from(header.row_count), values)?);
        }
        Some(sums)
    }

    /// Keeps the sums of a segment's rows in a file; `live` are those of its live rows.
    fn keep(
        &self,
        segment: &GradientSegment<'_>,
        (header, origin): &FileOf,
        live: &Sums,
    ) -> Result<Result<(), FileError>, GradientError> {
        // Deleted rows that cannot be added up keep nobody from a fit: it is not about them.
        let all = self.with_deleted(Change::Add, live.clone(), segment)?;
        let is_finite = |sums: &GradientSums| sums.values().iter().all(|value| value.is_finite());
        let Some(all) = all.filter(|all| all.iter().all(is_finite)) else { return Ok(Ok(())) };
        let values: Vec<&[f64]> = all.iter().map(GradientSums::values).collect();
        let storage = self.snapshot.inner.context.storage.as_ref();
        Ok(write_sums_file(storage, header, *origin, &values))
    }

    /// Sums to which a segment's deleted rows were added, or from which they were taken away; `None` if these rows cannot be
    /// read any more or lack what they weigh.
    fn with_deleted(
        &self,
        change: Change,
        sums: Sums,
        segment: &GradientSegment<'_>,
    ) -> Result<Option<Sums>, GradientError> {
        if segment.view.deleted.is_empty() {
            return Ok(Some(sums));
        }
        let mut changing = self.begin(change, sums);
        match self.change(&mut changing, segment, &segment.view.deleted) {
            Err(GradientError::Cancelled) => Err(GradientError::Cancelled),
            Ok(None) => Ok(Some(changing.end())),
            _ => Ok(None),
        }
    }

    fn add_live(&self, total: &mut Changing, segment: &GradientSegment<'_>) -> Result<(), GradientError> {
        match self.change(total, segment, &live_rows(segment.view))? {
            Some(row) => Err(without_outcome(self.kind, segment, row)),
            None => Ok(()),
        }
    }

    fn begin(&self, change: Change, sums: Sums) -> Changing {
        let block = sums.iter().map(|_| (self.empty.clone(), Vec::new())).collect();
        Changing { sums, change, block }
    }

    /// Adds rows of a segment to sums or takes them away. Ends early at a row that lacks what it weighs, and names it.
    fn change(
        &self,
        changing: &mut Changing,
        segment: &GradientSegment<'_>,
        rows: &RowSet,
    ) -> Result<Option<RowId>, GradientError> {
        let layout = self.rows.schema.layout();
        let most = (BLOCK_VALUES / layout.width().max(1)).clamp(1, BLOCK_ROWS);
        let mut decoded = SketchRows::default();
        for (first, count) in rows.runs(most as u32) {
            if self.cancel.is_cancelled() {
                return Err(GradientError::Cancelled);
            }
            read_rows(&mut decoded, segment.file, layout, first, count)?;
            for (row, values) in decoded.values.chunks(layout.width().max(1)).enumerate() {
                let (outcome, is_zero) = (decoded.outcome(layout, row), layout.is_zero(values));
                let Some(weights) = row_weights(self.kind, layout.members(), outcome.as_ref(), is_zero)
                else {
                    return Ok(Some(RowId(first.0 + row as u32)));
                };
                for (member, (own, weights)) in changing.block.iter_mut().zip(weights).enumerate() {
                    own.0.push(layout, member as u32, &decoded, row);
                    own.1.push(weights);
                }
                if changing.block.first().is_some_and(|(gradients, _)| gradients.rows() >= most) {
                    changing.empty_block(&self.empty);
                }
            }
        }
        Ok(None)
    }
}

fn live_rows(view: &SegmentView) -> std::borrow::Cow<'_, RowSet> {
    match &view.live {
        Some(live) => std::borrow::Cow::Borrowed(live.as_ref()),
        None => std::borrow::Cow::Owned(RowSet::full(view.segment.record.row_count)),
    }
}

/// Whether sums are worth a file. The segment must have `rows_min` rows, and
///
/// - sums of squares must take no more bytes than the column's values, which would be read instead;
/// - of outer products there must be fewer parameters than rows: then the sums take fewer bytes than the gradients would,
///   written out in f32, and adding them up again takes more than a multiplication a parameter for each value of the file.
fn is_worth_a_file(header: &SumsHeader, values_length: u64, rows_min: u32) -> bool {
    let Some(length) = header.sums_length() else { return false };
    let is_smaller = match header.kind {
        SumsKind::Diagonal => length <= values_length,
        SumsKind::Fisher | SumsKind::Trak | SumsKind::Margin => {
            header.parameters < u64::from(header.row_count)
        }
    };
    header.row_count >= rows_min && is_smaller
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ColumnId, SegmentId};

    #[test]
    fn sums_are_kept_where_they_are_smaller_than_what_they_stand_for() {
        let is_worth = |kind, row_count: u32, width: u32, parameters, rows_min| {
            let (segment, column) = (SegmentId(1), ColumnId(1));
            let header = SumsHeader { segment, row_count, column, width, members: 2, kind, parameters };
            is_worth_a_file(&header, 4 * u64::from(row_count) * u64::from(width), rows_min)
        };
        for kind in [SumsKind::Fisher, SumsKind::Margin] {
            assert!(is_worth(kind, 1001, 10, 1000, 512) && !is_worth(kind, 1000, 10, 1000, 512));
            assert!(!is_worth(kind, 511, 10, 20, 512) && is_worth(kind, 512, 10, 20, 512));
            assert!(!is_worth(kind, u32::MAX, 10, u64::MAX, 0));
        }
        // 2 x 8 x 10,000 bytes of sums for 4 x 40 bytes a row.
        let diagonal = SumsKind::Diagonal;
        assert!(is_worth(diagonal, 1000, 40, 10_000, 512) && !is_worth(diagonal, 999, 40, 10_000, 512));
        assert!(!is_worth(diagonal, 511, 10, 20, 512) && is_worth(diagonal, 512, 10, 20, 512));
    }

    #[test]
    fn only_fits_over_parameters_take_sums() {
        use CurvatureForm::{Direct, Dual, Landmarks, Primal};
        for kind in CurvatureKind::ALL {
            for form in [Dual, Landmarks] {
                assert_eq!(sums_kind(kind, form).filter(|sums| *sums != SumsKind::Diagonal), None);
            }
        }
        assert_eq!(sums_kind(CurvatureKind::Identity, Direct), None);
        assert_eq!(sums_kind(CurvatureKind::Diagonal, Direct), Some(SumsKind::Diagonal));
        assert_eq!(sums_kind(CurvatureKind::Fisher, Primal), Some(SumsKind::Fisher));
        assert_eq!(sums_kind(CurvatureKind::Margin, Primal), Some(SumsKind::Margin));
    }
}
