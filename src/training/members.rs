//! Heads along several trainings, and the course of their probabilities.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;

use super::error::TrainingError;
use super::head::{derived_seed, train_head};
use super::rows::LabelledRows;
use crate::base::{Cancel, Progress};
use crate::encoder::{Head, HeadConfiguration};

/// How many trainings, and how each is made.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberPlan {
    /// Trainings on all rows, each with other first weights and another order of the rows; at least 1.
    pub runs: usize,
    /// Decides those.
    pub seed: u64,
    /// How each is made; at least 2 epochs.
    pub configuration: HeadConfiguration,
}

impl Default for MemberPlan {
    fn default() -> Self {
        Self { runs: 5, seed: 0, configuration: HeadConfiguration::default() }
    }
}

/// A head somewhere along a training.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadMember {
    /// The training, from 0.
    pub run: usize,
    /// The epoch after which the head was taken, from 1.
    pub epoch: usize,
    /// The head.
    pub head: Head,
}

/// The course of the probability of each row's own label.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadTrajectory {
    /// Probability of the row's own label after each epoch, mean over the runs, [rows, epochs].
    pub probabilities: Vec<f32>,
    /// Learning rate of each epoch times the epochs that it stands for, here 1: `[epochs]`.
    pub weights: Vec<f32>,
}

/// What several trainings leave behind.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadMembers {
    /// Of each run the head after its first epoch, then the one after its last.
    pub members: Vec<HeadMember>,
    /// The course of all runs.
    pub trajectory: HeadTrajectory,
}

/// One run.
struct Run {
    members: [HeadMember; 2],
    /// Of each epoch, for each row.
    probabilities: Vec<Vec<f32>>,
    rates: Vec<f64>,
}

/// Trains on all rows, several times, in parallel in the caller's pool.
///
/// The result depends on the rows and the plan alone, not on the number of threads.
///
/// # Errors
/// As [`train_head`]; fewer than 2 epochs, no runs, or `cancel` asked to stop.
///
/// # Complexity
/// `runs` trainings, and as many passes over all rows as they have epochs; keeps rows x epochs values a run.
///
/// ```
/// use ascribe::base::{Cancel, NoProgress};
/// use ascribe::training::{LabelledRows, MemberPlan, train_members};
/// let classes = ["left", "right"].map(str::to_owned);
/// let features: Vec<f32> = (0..40).map(|row| if row % 2 == 0 { -1.0 } else { 1.0 }).collect();
/// let labels: Vec<u32> = (0..40).map(|row| row % 2).collect();
/// let rows = LabelledRows::new(&features, 1, &labels, &classes)?;
/// let plan = MemberPlan { runs: 2, ..MemberPlan::default() };
/// let found = train_members(&rows, &plan, &NoProgress, &Cancel::new())?;
/// let last = plan.configuration.epochs;
/// let epochs: Vec<_> = found.members.iter().map(|member| (member.run, member.epoch)).collect();
/// assert_eq!(epochs, [(0, 1), (0, last), (1, 1), (1, last)]);
/// assert_eq!(found.trajectory.probabilities.len(), 40 * last);
/// # Ok::<(), ascribe::training::TrainingError>(())
/// ```
pub fn train_members(
    rows: &LabelledRows<'_>,
    plan: &MemberPlan,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<HeadMembers, TrainingError> {
    let epochs = plan.configuration.epochs;
    if epochs < 2 {
        return Err(TrainingError::OneEpoch { epochs });
    }
    if plan.runs == 0 {
        return Err(TrainingError::Trainings { found: 0 });
    }
    let finished = AtomicU64::new(0);
    progress.begin("train the head", "epochs", Some(plan.runs as u64 * epochs as u64));
    let after_epoch = || {
        progress.advance(finished.fetch_add(1, Ordering::Relaxed) + 1);
        if cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let runs: Result<Vec<Run>, TrainingError> = (0..plan.runs)
        .into_par_iter()
        .with_max_len(1)
        .map(|run| train_run(rows, plan, run, &after_epoch))
        .collect();
    progress.end();
    let runs = runs?;
    let trajectory = trajectory(&runs, rows.len());
    Ok(HeadMembers { members: runs.into_iter().flat_map(|run| run.members).collect(), trajectory })
}

fn train_run(
    rows: &LabelledRows<'_>,
    plan: &MemberPlan,
    run: usize,
    after_epoch: &(dyn Fn() -> ControlFlow<()> + Sync),
) -> Result<Run, TrainingError> {
    let all: Vec<usize> = (0..rows.len()).collect();
    let (mut first, mut failure) = (None, None);
    let (mut probabilities, mut rates) = (Vec::new(), Vec::new());
    let seed = derived_seed(plan.seed, run as u64);
    let last = train_head(rows, &all, &plan.configuration, seed, &mut |epoch| {
        match epoch.head.label_probabilities(rows.features(), rows.labels()) {
            Ok(found) => probabilities.push(found),
            Err(error) => {
                failure = Some(error);
                return ControlFlow::Break(());
            }
        }
        rates.push(epoch.learning_rate);
        first.get_or_insert_with(|| epoch.head.clone());
        after_epoch()
    });
    if let Some(error) = failure {
        return Err(error.into());
    }
    let last = HeadMember { run, epoch: plan.configuration.epochs, head: last? };
    let first = HeadMember { run, epoch: 1, head: first.ok_or(TrainingError::NoRows)? };
    Ok(Run { members: [first, last], probabilities, rates })
}

/// Means over the runs, in their order.
fn trajectory(runs: &[Run], rows: usize) -> HeadTrajectory {
    let weights: Vec<f32> =
        runs.first().map(|run| run.rates.iter().map(|rate| *rate as f32).collect()).unwrap_or_default();
    let mut probabilities = Vec::with_capacity(rows * weights.len());
    for row in 0..rows {
        for epoch in 0..weights.len() {
            let of_run =
                |run: &Run| run.probabilities.get(epoch).and_then(|of_rows| of_rows.get(row)).copied();
            let sum: f64 = runs.iter().filter_map(of_run).map(f64::from).sum();
            probabilities.push((sum / runs.len() as f64) as f32);
        }
    }
    HeadTrajectory { probabilities, weights }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{NoProgress, RandomStream};

    fn members(threads: usize, runs: usize) -> (HeadMembers, Vec<f32>, Vec<u32>) {
        let mut stream = RandomStream::new(2);
        let labels: Vec<u32> = (0..60).map(|row| row % 2).collect();
        let noise = |label: &u32| [f64::from(*label) + stream.unit() * 1.5, stream.unit()];
        let features: Vec<f32> = labels.iter().flat_map(noise).map(|value| value as f32).collect();
        let classes = ["a", "b"].map(str::to_owned);
        let rows = LabelledRows::new(&features, 2, &labels, &classes).unwrap();
        let configuration =
            HeadConfiguration { hidden: Some(4), epochs: 4, batch_rows: 8, ..HeadConfiguration::default() };
        let plan = MemberPlan { runs, seed: 3, configuration };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let found = pool.install(|| train_members(&rows, &plan, &NoProgress, &Cancel::new())).unwrap();
        (found, features, labels)
    }

    #[test]
    fn members_and_trajectory_do_not_depend_on_the_threads() {
        assert_eq!(members(1, 3).0, members(2, 3).0);
    }

    #[test]
    fn the_trajectory_is_the_mean_of_the_members_where_it_meets_them() {
        let (found, features, labels) = members(2, 3);
        let of = |epoch: usize| -> Vec<Vec<f32>> {
            let members = found.members.iter().filter(|member| member.epoch == epoch);
            members.map(|member| member.head.label_probabilities(&features, &labels).unwrap()).collect()
        };
        for epoch in [1, 4] {
            let runs = of(epoch);
            assert_eq!(runs.len(), 3);
            assert_ne!(runs[0], runs[1]);
            for row in 0..60 {
                let mean = runs.iter().map(|run| f64::from(run[row])).sum::<f64>() / 3.0;
                assert_eq!(found.trajectory.probabilities[row * 4 + epoch - 1], mean as f32);
            }
        }
        let rates: Vec<f32> = [0.01, 0.0075, 0.005, 0.0025].to_vec();
        assert_eq!(found.trajectory.weights, rates);
    }

    #[test]
    fn a_request_to_stop_and_plans_without_members_are_errors() {
        let (features, labels) = ([0.0, 1.0], [0, 1]);
        let classes = ["a", "b"].map(str::to_owned);
        let rows = LabelledRows::new(&features, 1, &labels, &classes).unwrap();
        let cancel = Cancel::new();
        let plan = MemberPlan::default();
        let ask = |plan: &MemberPlan| train_members(&rows, plan, &NoProgress, &cancel);
        let configuration = HeadConfiguration { epochs: 1, ..HeadConfiguration::default() };
        let one = MemberPlan { configuration, ..plan.clone() };
        assert!(matches!(ask(&one), Err(TrainingError::OneEpoch { epochs: 1 })));
        let none = MemberPlan { runs: 0, ..plan.clone() };
        assert!(matches!(ask(&none), Err(TrainingError::Trainings { found: 0 })));
        cancel.cancel();
        assert!(matches!(ask(&plan), Err(TrainingError::Cancelled)));
    }
}
