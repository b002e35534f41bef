//! Rows ranked by how probably their label is wrong.

use super::audited_rows::{Course, earliest, read_labels};
use super::error::LabelAuditError;
use super::neighbours::neighbour_votes;
use super::ridge::{RidgeVerdict, kernel_rows, ridge_verdict};
use crate::base::limits::DUAL_ROWS_MAX;
use crate::engine::{GradientColumn, LabelledTable, Snapshot, Watch};
use crate::stats::{SampleError, normal_scores};

/// What is audited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelAuditOptions {
    /// The field with the labels.
    pub label: String,
    /// The sketch column; `None`: the only one, if there is one.
    pub column: Option<String>,
}

/// Which kernel the leave-one-out fit is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditKernel {
    /// Gradients of the logits by the weights of the head at its earliest checkpoint, summed over layers and classes.
    Jacobian,
    /// The cosine of the embeddings: there is no head.
    Cosine,
    /// No fit: there are too many rows.
    None,
}

impl AuditKernel {
    /// The name that users see.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jacobian => "jacobian of the head",
            Self::Cosine => "cosine of the embeddings",
            Self::None => "none",
        }
    }
}

/// What is known of the rows from the time of training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrainingSignal {
    /// The mean probability of the own label over the logged epochs.
    Logged,
    /// The probability of the own label at the earliest checkpoint.
    Earliest,
    /// Nothing.
    None,
}

impl TrainingSignal {
    /// The name that users see.
    pub fn name(self) -> &'static str {
        match self {
            Self::Logged => "mean probability over logged epochs",
            Self::Earliest => "probability at the earliest checkpoint",
            Self::None => "none",
        }
    }
}

/// What the audit says of one row.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditedRow {
    /// Its number among the audited rows, in the order of ingest.
    pub place: usize,
    /// Its key.
    pub key: String,
    /// Its label.
    pub label: String,
    /// The label that the other rows say: by the leave-one-out fit, without one by the nearest rows.
    pub suggested: String,
    /// 1 - the probability of its label during training, 0 to 1; `None` where it was not measured.
    pub training: Option<f64>,
    /// How much higher the leave-one-out fit puts another label than its own; above 0 where it says another. `None`
    /// without a fit.
    pub ridge: Option<f64>,
    /// 1 - the cosine-weighted share of the 20 nearest rows that have its label, 0 to 1.
    pub neighbours: f64,
    /// The sum of the normal scores of the three: high where the label is probably wrong.
    pub score: f64,
}

/// All audited rows.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelAudit {
    /// The most suspicious first; of equal scores by key.
    pub rows: Vec<AuditedRow>,
    /// Live rows without a label.
    pub unlabelled: usize,
    /// Different labels.
    pub classes: usize,
    /// The kernel of the leave-one-out fit.
    pub kernel: AuditKernel,
    /// What is known from training.
    pub training: TrainingSignal,
    /// Names of the columns that it was made of: the embeddings, then the sketch column if one was used.
    pub columns: Vec<String>,
    /// What was left out or replaced, and why; sentences for people.
    pub notes: Vec<String>,
}

/// Ranks all live rows with a label by how probably it is wrong: N(a) + N(b) + N(c), with N the
/// [normal score](normal_scores) among the rows that have the part.
///
/// - a, from training: 1 - the mean probability of the own label over the logged epochs, or at the earliest checkpoint if no
///   row has logged ones. A row of which nothing was measured has N(a) = 0, the middle. Without a sketch column made with
///   these labels the part is left out.
/// - b, from a fit to the other rows: -(f_y - max other f), f the [leave-one-out one-hot ridge](crate::curvature::leave_one_out_ridge)
///   with the kernel of the head's Jacobians at the earliest checkpoint, or without a head the cosine of the embeddings. It
///   needs a matrix of rows x rows: above 4,000 labelled rows the part is left out.
/// - c, from the nearest rows: 1 - the cosine-weighted share of the 20 nearest by embedding that have the same label.
///
/// What was left out or replaced stands in the notes of the result.
///
/// # Errors
/// See [`LabelAuditError`].
///
/// # Complexity
/// O(rows^2 x width) for the nearest rows, O(rows^3) for the fit, in parallel.
///
/// # References
/// a: Pleiss, Zhang, Elenberg, Weinberger: Identifying mislabeled data using the area under the margin ranking, arXiv
/// 2001.10528, whose course of training it takes, with probabilities in place of margins. The sum of normal scores is this
/// engine's own.
pub fn audit_labels(
    snapshot: &Snapshot,
    options: &LabelAuditOptions,
    watch: Watch<'_>,
) -> Result<LabelAudit, LabelAuditError> {
    let mut notes = Vec::new();
    let column = usable_column(snapshot, options, &mut notes)?;
    let head = column.as_ref().and_then(|column| column.head.as_ref());
    let embedding = head.and_then(|head| head.embedding.as_deref());
    let rows = read_labels(snapshot, embedding, &options.label)?;
    let mut columns = vec![snapshot.embedding_name(embedding)?.to_owned()];
    let course = column.as_ref().map(|column| Course::read(snapshot, column, &rows)).transpose()?;
    let course = course.filter(|course| course.values.iter().any(Option::is_some));
    note_course(course.as_ref(), &mut notes);
    // One without a head that also tells nothing of the training was not used.
    columns.extend(column.iter().filter(|_| head.is_some() || course.is_some()).map(|own| own.name.clone()));
    let (kernel, ridge) = ridge(snapshot, column.as_ref(), &rows, &mut notes)?;
    let votes = neighbour_votes(snapshot, embedding, &rows, watch)?;

    let neighbours: Vec<Option<f64>> = votes.iter().map(|vote| Some(1.0 - vote.share)).collect();
    let ridge_values: Option<Vec<Option<f64>>> =
        ridge.as_ref().map(|ridge| ridge.values.iter().copied().map(Some).collect());
    let parts: Vec<&[Option<f64>]> = course
        .iter()
        .map(|course| course.values.as_slice())
        .chain(ridge_values.as_deref())
        .chain([neighbours.as_slice()])
        .collect();
    let scores = combined_scores(&parts)?;
    let class = |number: u32| rows.classes.get(number as usize).cloned().unwrap_or_default();
    let audited =
        rows.labelled_keys().zip(&votes).zip(scores).enumerate().map(|(place, ((key, vote), score))| {
            let fitted = ridge.as_ref().and_then(|ridge| ridge.suggested.get(place));
            AuditedRow {
                place,
                key: key.clone(),
                label: class(rows.labels[place]),
                suggested: class(fitted.copied().unwrap_or(vote.best)),
                training: course.as_ref().and_then(|course| course.values[place]),
                ridge: ridge.as_ref().map(|ridge| ridge.values[place]),
                neighbours: 1.0 - vote.share,
                score,
            }
        });
    let mut audited: Vec<AuditedRow> = audited.collect();
    audited.sort_by(|left, right| right.score.total_cmp(&left.score).then_with(|| left.key.cmp(&right.key)));
    Ok(LabelAudit {
        rows: audited,
        unlabelled: rows.labelled.len() - rows.labels.len(),
        classes: rows.classes.len(),
        kernel,
        training: match course {
            Some(Course { is_logged: true, .. }) => TrainingSignal::Logged,
            Some(_) => TrainingSignal::Earliest,
            None => TrainingSignal::None,
        },
        columns,
        notes,
    })
}

/// For each row the sum of its [normal scores](normal_scores) in all parts, which have a value for each row or none. A row
/// without a value adds 0 in that part, and the others are ranked without it.
///
/// # Errors
/// A value is not finite, or the parts differ in length.
///
/// # Complexity
/// O(parts x rows log rows)
///
/// ```
/// use ascribe::monitor::combined_scores;
/// let scores = combined_scores(&[&[Some(0.1), Some(0.9), None], &[Some(7.0), Some(8.0), Some(9.0)]])?;
/// assert!(scores[0] < scores[1] && scores[1] < scores[2]);
/// # Ok::<(), ascribe::stats::SampleError>(())
/// ```
pub fn combined_scores(parts: &[&[Option<f64>]]) -> Result<Vec<f64>, SampleError> {
    let rows = parts.first().map_or(0, |part| part.len());
    let mut scores = vec![0.0; rows];
    for part in parts {
        if part.len() != rows {
            return Err(SampleError::Lengths { left: rows, right: part.len() });
        }
        let known: Vec<f64> = part.iter().flatten().copied().collect();
        let mut normal = normal_scores(&known)?.into_iter();
        for (score, _) in scores.iter_mut().zip(*part).filter(|(_, value)| value.is_some()) {
            *score += normal.next().unwrap_or_default();
        }
    }
    Ok(scores)
}

/// The sketch column, if what stands in it is about the labels that are audited.
fn usable_column(
    snapshot: &Snapshot,
    options: &LabelAuditOptions,
    notes: &mut Vec<String>,
) -> Result<Option<GradientColumn>, LabelAuditError> {
    let Some(column) = snapshot.gradient_column(options.column.as_deref())? else {
        notes.push(
            "there are no gradients, so that nothing is known from training and the kernel is the cosine of the embeddings: \"ascribe train-head\" makes some"
                .to_owned(),
        );
        return Ok(None);
    };
    match &column.head {
        Some(head) if head.label != options.label => {
            notes.push(format!(
                "column {:?} was trained on field {:?}, not {:?}, and is left out: train a head on these labels",
                column.name, head.label, options.label
            ));
            Ok(None)
        }
        Some(head) if head.embedding.is_none() => {
            notes.push(format!(
                "the embeddings that the head of column {:?} classifies were dropped, and it is left out",
                column.name
            ));
            Ok(None)
        }
        Some(_) => Ok(Some(column)),
        None => {
            notes.push(format!(
                "the gradients of column {:?} were imported without a head: the kernel is the cosine of the embeddings",
                column.name
            ));
            Ok(Some(column))
        }
    }
}

fn note_course(course: Option<&Course>, notes: &mut Vec<String>) {
    let missing = course.map_or(0, |course| course.values.iter().filter(|value| value.is_none()).count());
    if missing > 0 {
        notes.push(format!(
            "nothing was measured of {missing} rows during training: they have the middle score there; \"ascribe train-head\" again takes them in"
        ));
    }
}

/// The leave-one-out fit, by the best kernel that there is.
fn ridge(
    snapshot: &Snapshot,
    column: Option<&GradientColumn>,
    rows: &LabelledTable,
    notes: &mut Vec<String>,
) -> Result<(AuditKernel, Option<RidgeVerdict>), LabelAuditError> {
    if rows.labels.len() as u64 > DUAL_ROWS_MAX {
        notes.push(format!(
            "{} rows are too many for a matrix of all with all (at most {DUAL_ROWS_MAX}): the leave-one-out fit is left out",
            rows.labels.len()
        ));
        return Ok((AuditKernel::None, None));
    }
    let with_head = column.filter(|column| column.head.is_some());
    let tangents =
        with_head.map(|column| snapshot.head_tangents(Some(&column.name), earliest(column), &rows.features));
    let tangents = tangents.transpose()?;
    let kernel = if tangents.is_some() { AuditKernel::Jacobian } else { AuditKernel::Cosine };
    let verdict =
        snapshot.in_pool(|| ridge_verdict(&kernel_rows(rows, tangents), &rows.labels, rows.classes.len()))?;
    Ok((kernel, Some(verdict)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::inverse_normal;

    #[test]
    fn parts_are_added_as_normal_scores_with_average_ranks() {
        let parts: [&[Option<f64>]; 2] =
            [&[Some(0.5), Some(0.1), Some(0.5), Some(0.9)], &[Some(4.0), Some(3.0), Some(2.0), Some(1.0)]];
        let found = combined_scores(&parts).unwrap();
        let n = |rank: f64| inverse_normal((rank - 0.5) / 4.0).unwrap();
        let expected = [n(2.5) + n(4.0), n(1.0) + n(3.0), n(2.5) + n(2.0), n(4.0) + n(1.0)];
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
    }

    #[test]
    fn rows_without_a_value_stand_in_the_middle_and_move_no_other() {
        let all = combined_scores(&[&[Some(1.0), Some(2.0), Some(3.0)]]).unwrap();
        let some = combined_scores(&[&[Some(1.0), None, Some(2.0), None, Some(3.0)]]).unwrap();
        assert_eq!(some, [all[0], 0.0, all[1], 0.0, all[2]]);
        assert_eq!(combined_scores(&[&[None, None]]).unwrap(), [0.0, 0.0]);
        assert!(combined_scores(&[&[Some(1.0)], &[]]).is_err());
        assert!(combined_scores(&[&[Some(f64::NAN)]]).is_err());
    }
}
