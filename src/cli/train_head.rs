//! `train-head`: a classification head on the embeddings, with the gradients of every row.

use std::time::Instant;

use clap::{Args, value_parser};

use super::failure::Failure;
use super::session::Session;
use super::store::{OutputArguments, StoreArguments};
use crate::answers::head_report;
use crate::encoder::HeadConfiguration;
use crate::engine::SKETCH_COLUMN_NAME;
use crate::training::{HeadPlan, MemberPlan, train_store_head};

/// How heads are trained.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct HeadArguments {
    /// Hidden units; 0 for a logistic classifier
    #[arg(long, value_name = "N", default_value_t = HeadConfiguration::default().hidden.unwrap_or(0))]
    hidden: usize,
    /// Epochs of each training
    #[arg(long, value_name = "N", default_value_t = HeadConfiguration::default().epochs)]
    epochs: usize,
    /// Learning rate of the first epoch; it falls to 0
    #[arg(long, value_name = "X", default_value_t = HeadConfiguration::default().learning_rate)]
    learning_rate: f64,
    /// Rows of one step
    #[arg(long, value_name = "N", default_value_t = HeadConfiguration::default().batch_rows)]
    batch_rows: usize,
    /// Weight decay
    #[arg(long, value_name = "X", default_value_t = HeadConfiguration::default().weight_decay)]
    weight_decay: f64,
    /// Decides first weights, the order of rows, and random subsets
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) seed: u64,
}

impl HeadArguments {
    pub(super) fn configuration(&self) -> HeadConfiguration {
        HeadConfiguration {
            hidden: (self.hidden > 0).then_some(self.hidden),
            epochs: self.epochs,
            batch_rows: self.batch_rows,
            learning_rate: self.learning_rate,
            weight_decay: self.weight_decay,
        }
    }
}

/// Train a classifier on the embeddings, and keep the gradient of every row
///
/// The gradients are exact and factored, of the checkpoints after the first epoch and the last of each run. Then
/// "ascribe fit" weighs them, and "ascribe query TEXT --label L --score gradient" asks which rows made the classifier
/// say so. Rows without a label keep a gradient of zeros. A column that was trained before is replaced.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  ascribe train-head pets --label kind
  ascribe fit pets
  ascribe query pets 'a cat on a mat' --label cat --score gradient")]
pub(super) struct TrainHeadArguments {
    #[command(flatten)]
    store: StoreArguments,
    /// Field with the labels
    #[arg(long, value_name = "FIELD")]
    label: String,
    /// Trainings, each with other first weights; two checkpoints of each are kept
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Embedding column to classify [default: the first]
    #[arg(long, value_name = "NAME")]
    embedding: Option<String>,
    /// Sketch column that takes the gradients
    #[arg(long, value_name = "NAME", default_value = SKETCH_COLUMN_NAME)]
    column: String,
    #[command(flatten)]
    head: HeadArguments,
    #[command(flatten)]
    output: OutputArguments,
}

impl TrainHeadArguments {
    pub(super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        let plan = HeadPlan {
            label: self.label,
            embedding: self.embedding,
            column: self.column,
            members: MemberPlan {
                runs: self.runs as usize,
                seed: self.head.seed,
                configuration: self.head.configuration(),
            },
        };
        let mut store = self.store.open()?;
        let begun = Instant::now();
        let report = train_store_head(&mut store, &plan, session.watch())?;
        session.report(self.output.format, &head_report(&report, begun.elapsed()))
    }
}
