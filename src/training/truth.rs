//! What the data does, by training without half of it.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use super::error::TrainingError;
use super::head::{derived_seed, train_head};
use super::rows::LabelledRows;
use crate::base::limits::TRUTH_TRAININGS_MAX;
use crate::base::{Cancel, Progress, RandomStream};
use crate::encoder::HeadConfiguration;

/// Names of what is taken from the seed of a measurement.
const SUBSETS: u64 = 1;
const TRAININGS: u64 = 2;

/// How the truth is measured.
#[derive(Clone, Debug, PartialEq)]
pub struct TruthPlan {
    /// Random halves of the rows that are trained on.
    pub subsets: usize,
    /// Trainings on each half, which differ in their first weights and in the order of the rows.
    pub runs: usize,
    /// Decides halves and trainings.
    pub seed: u64,
    /// How each training is made.
    pub configuration: HeadConfiguration,
}

impl Default for TruthPlan {
    fn default() -> Self {
        Self { subsets: 100, runs: 3, seed: 0, configuration: HeadConfiguration::default() }
    }
}

/// One training of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TruthPosition {
    /// The half, from 0.
    pub subset: usize,
    /// The training on that half, from 0.
    pub run: usize,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth {
    /// Whether a row was trained on, 1 or 0: [subsets, rows].
    pub subsets: Vec<u8>,
    /// Margin log p - log(1 - p) of each query's label, higher is better: [subsets, runs, queries].
    pub outputs: Vec<f32>,
}

/// The rows of half `subset` of the measurement with the seed `seed`, ascending: as many as `rows` / 2 rounded down, each set
/// of that size as likely as any other.
///
/// # Complexity
/// O(rows).
///
/// ```
/// use ascribe::training::half_subset;
/// let half = half_subset(9, 3, 0);
/// assert_eq!(half.len(), 4);
/// assert_eq!(half, half_subset(9, 3, 0));
/// assert!(half.is_sorted() && half.iter().all(|row| *row < 9));
/// ```
pub fn half_subset(rows: usize, subset: usize, seed: u64) -> Vec<usize> {
    let mut stream = RandomStream::new(derived_seed(derived_seed(seed, SUBSETS), subset as u64));
    let mut drawn: Vec<usize> = (0..rows).collect();
    stream.shuffle(&mut drawn);
    drawn.truncate(rows / 2);
    drawn.sort_unstable();
    drawn
}

/// Measures how the label of each query fares when a head is trained on random halves of the rows.
///
/// Trainings run in parallel in the caller's pool. Each depends on the rows, the plan and its position alone, so that the
/// result is the same with any number of threads, and whether it was interrupted or not. `known` has a place for each
/// position, all runs of the first half first, with the outputs that an earlier call finished; it may be empty. `finished`
/// receives the outputs of each training that this call finishes, from the thread that made it, in no fixed order; by
/// breaking it stops the measurement.
///
/// # Errors
/// As [`train_head`]; queries of another width or with other classes, fewer than 2 rows, known outputs that do not fit the
/// plan, or a request to stop. Trainings that `finished` has received by then need not be made again.
///
/// # Complexity
/// `subsets` x `runs` trainings of half the rows. Holds rows values a half and queries values a training.
///
/// # References
/// Ilyas, Park, Engstrom, Leclerc, Madry: Datamodels, ICML 2022, section 2; the half as the size of subsets as in Park et al.:
/// TRAK, arXiv 2303.14186, section 4.1.
///
/// ```
/// use std::ops::ControlFlow;
/// use ascribe::base::{Cancel, NoProgress};
/// use ascribe::training::{LabelledRows, TruthPlan, measure_truth};
/// let classes = ["left", "right"].map(str::to_owned);
/// let features: Vec<f32> = (0..40).map(|row| if row % 2 == 0 { -1.0 } else { 1.0 }).collect();
/// let labels: Vec<u32> = (0..40).map(|row| row % 2).collect();
/// let rows = LabelledRows::new(&features, 1, &labels, &classes)?;
/// let queries = LabelledRows::new(&[2.0], 1, &[1], &classes)?;
/// let plan = TruthPlan { subsets: 3, runs: 2, ..TruthPlan::default() };
/// let truth =
///     measure_truth(&rows, &queries, &plan, &[], &|_, _| ControlFlow::Continue(()), &NoProgress, &Cancel::new())?;
/// assert_eq!((truth.subsets.len(), truth.outputs.len()), (3 * 40, 3 * 2 * 1));
/// assert!(truth.outputs.iter().all(|margin| *margin > 0.0));
/// # Ok::<(), ascribe::training::TrainingError>(())
/// ```
pub fn measure_truth(
    rows: &LabelledRows<'_>,
    queries: &LabelledRows<'_>,
    plan: &TruthPlan,
    known: &[Option<Vec<f32>>],
    finished: &(dyn Fn(TruthPosition, &[f32]) -> ControlFlow<()> + Sync),
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Truth, TrainingError> {
    let trainings = check(rows, queries, plan, known)?;
    let halves: Vec<Vec<usize>> =
        (0..plan.subsets).map(|subset| half_subset(rows.len(), subset, plan.seed)).collect();
    let position = |number: usize| TruthPosition { subset: number / plan.runs, run: number % plan.runs };
    let missing: Vec<usize> =
        (0..trainings).filter(|number| !matches!(known.get(*number), Some(Some(_)))).collect();
    let done = AtomicU64::new((trainings - missing.len()) as u64);
    progress.begin("measure the truth", "trainings", Some(trainings as u64));
    progress.advance(done.load(Ordering::Relaxed));
    let measure = |number: usize| {
        let position = position(number);
        let half = halves.get(position.subset).map(Vec::as_slice).unwrap_or_default();
        let outputs = measure_one(rows, half, queries, plan, position, cancel)?;
        if finished(position, &outputs).is_break() {
            return Err(TrainingError::Cancelled);
        }
        progress.advance(done.fetch_add(1, Ordering::Relaxed) + 1);
        Ok((number, outputs))
    };
    let measured: Result<Vec<(usize, Vec<f32>)>, TrainingError> =
        missing.par_iter().with_max_len(1).map(|number| measure(*number)).collect();
    progress.end();
    let measured = measured?;
    let mut outputs = vec![0.0; trainings * queries.len()];
    let before = known.iter().enumerate().filter_map(|(number, known)| Some((number, known.as_ref()?)));
    for (number, found) in before.chain(measured.iter().map(|(number, found)| (*number, found))) {
        let places = outputs.iter_mut().skip(number * queries.len());
        places.zip(found).for_each(|(to, from)| *to = *from);
    }
    let mut subsets = vec![0; plan.subsets * rows.len()];
    for (marks, half) in subsets.chunks_exact_mut(rows.len()).zip(&halves) {
        for row in half {
            if let Some(mark) = marks.get_mut(*row) {
                *mark = 1;
            }
        }
    }
    Ok(Truth { subsets, outputs })
}

/// The number of trainings, if everything fits.
fn check(
    rows: &LabelledRows<'_>,
    queries: &LabelledRows<'_>,
    plan: &TruthPlan,
    known: &[Option<Vec<f32>>],
) -> Result<usize, TrainingError> {
    if rows.len() < 2 {
        return Err(TrainingError::TooFewRows { rows: rows.len() });
    }
    if queries.width() != rows.width() {
        let (found, expected) = (queries.width().to_string(), rows.width().to_string());
        return Err(TrainingError::Unlike { what: "features", found, expected });
    }
    if queries.classes() != rows.classes() {
        let (found, expected) = (queries.classes().join(", "), rows.classes().join(", "));
        return Err(TrainingError::Unlike { what: "classes", found, expected });
    }
    plan.configuration.check()?;
    let trainings = plan.subsets.saturating_mul(plan.runs);
    if !(1..=TRUTH_TRAININGS_MAX).contains(&trainings) {
        return Err(TrainingError::Trainings { found: trainings });
    }
    if !known.is_empty() && known.len() != trainings {
        return Err(TrainingError::Known { found: known.len(), expected: trainings });
    }
    match known.iter().flatten().find(|outputs| outputs.len() != queries.len()) {
        Some(outputs) => Err(TrainingError::Known { found: outputs.len(), expected: queries.len() }),
        None => Ok(trainings),
    }
}

/// One training, and the margins of the queries' labels.
fn measure_one(
    rows: &LabelledRows<'_>,
    half: &[usize],
    queries: &LabelledRows<'_>,
    plan: &TruthPlan,
    position: TruthPosition,
    cancel: &Cancel,
) -> Result<Vec<f32>, TrainingError> {
    let of_half = derived_seed(derived_seed(plan.seed, TRAININGS), position.subset as u64);
    let seed = derived_seed(of_half, position.run as u64);
    let go_on = || if cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    if go_on().is_break() {
        return Err(TrainingError::Cancelled);
    }
    let head = train_head(rows, half, &plan.configuration, seed, &mut |_| go_on())?;
    let margins = head.margin(queries.features(), queries.labels())?;
    Ok(margins.iter().map(|margin| *margin as f32).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::base::NoProgress;
    use crate::encoder::HeadError;

    const ROWS: usize = 31;

    struct Data {
        features: Vec<f32>,
        labels: Vec<u32>,
        classes: [String; 2],
    }

    impl Data {
        fn new() -> Self {
            let mut stream = RandomStream::new(5);
            let labels: Vec<u32> = (0..ROWS as u32 + 4).map(|row| row % 2).collect();
            let noise = |label: &u32| [f64::from(*label) + stream.unit(), stream.unit() - 0.5];
            let features = labels.iter().flat_map(noise).map(|value| value as f32).collect();
            Self { features, labels, classes: ["a", "b"].map(str::to_owned) }
        }

        fn rows(&self) -> LabelledRows<'_> {
            let (features, labels) = (&self.features[..2 * ROWS], &self.labels[..ROWS]);
            LabelledRows::new(features, 2, labels, &self.classes).unwrap()
        }

        fn queries(&self) -> LabelledRows<'_> {
            let (features, labels) = (&self.features[2 * ROWS..], &self.labels[ROWS..]);
            LabelledRows::new(features, 2, labels, &self.classes).unwrap()
        }
    }

    fn plan() -> TruthPlan {
        let configuration =
            HeadConfiguration { hidden: Some(3), epochs: 3, batch_rows: 8, ..HeadConfiguration::default() };
        TruthPlan { subsets: 4, runs: 2, seed: 9, configuration }
    }

    type Known = Vec<Option<Vec<f32>>>;

    /// The truth from what is known, stopped after `most` more trainings, and what is known then.
    fn measure(threads: usize, known: &Known, most: usize) -> (Result<Truth, TrainingError>, Known) {
        let data = Data::new();
        let stored = Mutex::new((known.clone(), 0));
        let store = |position: TruthPosition, outputs: &[f32]| {
            let mut stored = stored.lock().unwrap();
            if stored.1 == most {
                return ControlFlow::Break(());
            }
            stored.1 += 1;
            stored.0[position.subset * 2 + position.run] = Some(outputs.to_vec());
            ControlFlow::Continue(())
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (rows, queries) = (data.rows(), data.queries());
        let truth = pool
            .install(|| measure_truth(&rows, &queries, &plan(), known, &store, &NoProgress, &Cancel::new()));
        (truth, stored.into_inner().unwrap().0)
    }

    #[test]
    fn a_measurement_that_was_interrupted_ends_as_one_that_was_not() {
        let nothing = vec![None; 8];
        let (whole, all) = measure(1, &nothing, 8);
        let whole = whole.unwrap();
        assert!(all.iter().all(Option::is_some));
        assert_eq!(measure(2, &nothing, 8).0.unwrap(), whole);
        let (stopped, known) = measure(2, &nothing, 3);
        assert!(matches!(stopped, Err(TrainingError::Cancelled)));
        assert_eq!(known.iter().flatten().count(), 3);
        // Only what is missing is trained: five more are allowed.
        assert_eq!(measure(2, &known, 5).0.unwrap(), whole);
        assert_eq!(measure(1, &all, 0).0.unwrap(), whole);
    }

    #[test]
    fn halves_have_half_of_the_rows_and_outputs_are_margins_of_heads_trained_on_them() {
        let truth = measure(2, &vec![None; 8], 8).0.unwrap();
        let data = Data::new();
        let halves: Vec<&[u8]> = truth.subsets.chunks(ROWS).collect();
        assert_eq!(halves.len(), 4);
        for (subset, half) in halves.iter().enumerate() {
            assert_eq!(half.iter().map(|mark| usize::from(*mark)).sum::<usize>(), ROWS / 2);
            let named: Vec<usize> = (0..ROWS).filter(|row| half[*row] == 1).collect();
            assert_eq!(named, half_subset(ROWS, subset, 9));
        }
        assert_ne!(halves[0], halves[1]);
        let at = |subset: usize, run: usize| &truth.outputs[(subset * 2 + run) * 4..][..4];
        assert_ne!(at(0, 0), at(0, 1));
        let of_half = derived_seed(derived_seed(9, TRAININGS), 2);
        let head = train_head(
            &data.rows(),
            &half_subset(ROWS, 2, 9),
            &plan().configuration,
            derived_seed(of_half, 1),
            &mut |_| ControlFlow::Continue(()),
        );
        let queries = data.queries();
        let margins = head.unwrap().margin(queries.features(), queries.labels()).unwrap();
        assert_eq!(at(2, 1), margins.iter().map(|margin| *margin as f32).collect::<Vec<_>>());
    }

    #[test]
    fn each_row_is_in_about_half_of_the_halves() {
        let mut counts = [0_u32; 40];
        (0..400).flat_map(|subset| half_subset(40, subset, 1)).for_each(|row| counts[row] += 1);
        assert_eq!(counts.iter().sum::<u32>(), 400 * 20);
        assert!(counts.iter().all(|count| (150..250).contains(count)), "{counts:?}");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let data = Data::new();
        let (rows, queries) = (data.rows(), data.queries());
        let cancel = Cancel::new();
        let go_on = |_: TruthPosition, _: &[f32]| ControlFlow::Continue(());
        let ask = |rows: &LabelledRows<'_>, queries: &LabelledRows<'_>, plan: &TruthPlan, known: &Known| {
            measure_truth(rows, queries, plan, known, &go_on, &NoProgress, &cancel).unwrap_err()
        };
        let known = |found: &Known| ask(&rows, &queries, &plan(), found);
        assert!(matches!(known(&vec![None; 7]), TrainingError::Known { found: 7, expected: 8 }));
        let short = vec![Some(vec![0.0; 3]); 8];
        assert!(matches!(known(&short), TrainingError::Known { found: 3, expected: 4 }));
        for (subsets, runs) in [(0, 1), (1, 0), (usize::MAX, 2)] {
            let plan = TruthPlan { subsets, runs, ..plan() };
            assert!(matches!(ask(&rows, &queries, &plan, &Vec::new()), TrainingError::Trainings { .. }));
        }
        let broken = HeadConfiguration { epochs: 0, ..HeadConfiguration::default() };
        let broken = TruthPlan { configuration: broken, ..plan() };
        let found = ask(&rows, &queries, &broken, &Vec::new());
        assert!(matches!(found, TrainingError::Head(HeadError::Number { .. })));
        let narrow = LabelledRows::new(&data.features[..3], 1, &data.labels[..3], &data.classes).unwrap();
        let found = ask(&rows, &narrow, &plan(), &Vec::new());
        assert!(matches!(found, TrainingError::Unlike { what: "features", .. }));
        let others = ["a", "c"].map(str::to_owned);
        let others = LabelledRows::new(&data.features[..2], 2, &data.labels[..1], &others).unwrap();
        let found = ask(&rows, &others, &plan(), &Vec::new());
        assert!(matches!(found, TrainingError::Unlike { what: "classes", .. }));
        assert!(matches!(ask(&others, &others, &plan(), &Vec::new()), TrainingError::TooFewRows { rows: 1 }));
        cancel.cancel();
        assert!(matches!(ask(&rows, &queries, &plan(), &Vec::new()), TrainingError::Cancelled));
    }
}
