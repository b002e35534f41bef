//! What a fit is computed from: kind, form, and the gradients of all live rows.

use super::fit_file::FitInput;
use super::fit_options::FitOptions;
use super::fit_sums::{row_weights, sum_rows, sums_kind, without_outcome};
use super::gradient_error::GradientError;
use super::gradient_rows::{GradientRows, GradientSegment, read_rows};
use super::options::Watch;
use super::snapshot::Snapshot;
use super::wanted_codes::{WantedCodes, wanted_codes};
use crate::base::limits::{DUAL_ROWS_MAX, LANDMARKS_DEFAULT, PRIMAL_PARAMETERS_MAX};
use crate::base::{RowId, drawn_numbers};
use crate::curvature::{CurvatureForm, CurvatureKind, MemberFactors, MemberGradients};
use crate::sketch::SketchSchema;

/// Decides which rows become landmarks.
const LANDMARK_SEED: u64 = 0x6c61_6e64_6d61_726b;

/// Chooses kind and form, and reads the gradients of all live rows and, where a form needs it, what they add up to; new sums are
/// kept if `keeps`.
pub(super) fn gather(
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
    let wanted = wanted_codes(kind, (options.codes, options.code_bits))?;
    let parameters = MemberGradients::empty(rows.schema.layout()).parameters();
    if options.factors.is_some() && kind.kronecker().is_none() {
        return Err(GradientError::mismatch(format!(
            "factors go with kfac and ekfac, not with {}: leave them away, or name one of these",
            kind.name()
        )));
    }
    let form = choose_form(kind, options.form, live, parameters)?;
    let mut input = read_gradients(rows, (kind, form), watch)?;
    if let Some(sums) = sums_kind(kind, form) {
        input.sums = Some(sum_rows(snapshot, rows, (kind, sums), keeps, watch.cancel)?);
    }
    input.codes = wanted;
    input.factors = factors_of(&rows.schema, options)?;
    if form == CurvatureForm::Landmarks || matches!(wanted, Some(WantedCodes::Leading { .. })) {
        choose_landmarks(rows, &mut input, options.landmarks.unwrap_or(LANDMARKS_DEFAULT))?;
    }
    Ok(input)
}

/// The factors that were given, if there are some for each member and module.
fn factors_of(
    schema: &SketchSchema,
    options: &FitOptions,
) -> Result<Option<Vec<MemberFactors>>, GradientError> {
    let Some(factors) = &options.factors else { return Ok(None) };
    let (members, modules) = (schema.members() as usize, schema.modules().len());
    match factors.len() == members && factors.iter().all(|own| own.len() == modules) {
        true => Ok(Some(factors.clone())),
        false => Err(GradientError::mismatch(format!(
            "factors of {} members were given; those of {members} with {modules} modules each are needed",
            factors.len()
        ))),
    }
}

fn choose_kind(rows: &GradientRows<'_>, options: &FitOptions) -> Result<CurvatureKind, GradientError> {
    let lacking = rows.segments.iter().find(|segment| !segment.file.has_outcomes());
    match (options.kind, lacking) {
        (Some(kind), Some(segment)) if kind.is_weighted() => Err(GradientError::mismatch(format!(
            "{} needs the probability of each row's own label (\"own\" in the sketch file), which segment {} does not have: import sketches that carry it, or fit fisher",
            kind.name(),
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
    let is_direct = kind.is_direct();
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
        factors: None,
        codes: None,
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
                .ok_or_else(|| without_outcome(kind, segment, row))?;
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
