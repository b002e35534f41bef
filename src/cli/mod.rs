//! Floor 9: the command line. What was typed becomes checked arguments, one file for each verb, and errors become text
//! and exit codes here only.
//!
//! Exit codes: 0 done, 1 the operation failed, 2 wrong usage, 3 it ran and found what it looks for, 130 interrupted.
//! Answers go to standard output, messages and progress to standard error.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `alter.rs` | `alter`: change the schema |
//! | `arguments.rs` | the verbs |
//! | `audit.rs` | `audit`: what to look at |
//! | `catalog_check.rs` | checking a catalog in a child process that may die; `check-catalog` |
//! | `compact.rs` | `compact`: few large segments instead of many small ones |
//! | `completions.rs` | `completions`: for the shell |
//! | `convert.rs` | `convert`: folders of other tools as files of this one |
//! | `create.rs` | `create`: a new store |
//! | `damping_search.rs` | choosing a damping by what retrained models said |
//! | `delete.rs` | `delete`: rows by key or predicate |
//! | `demo/` | `demo`: the whole main job on real data |
//! | `duration.rs` | durations with units |
//! | `eval.rs` | `eval`: how good the answers are |
//! | `eval_labels.rs` | `eval labels`: how well wrong labels are found |
//! | `eval_lds.rs` | `eval lds`: how far scores agree with retrained models |
//! | `failure.rs` | errors as text and exit codes |
//! | `fit.rs` | `fit`: a curvature over the gradients of a column |
//! | `foreign_folder.rs` | folders of other tools: how they are named, and their files opened |
//! | `gradient_arguments.rs` | names of curvatures, files of queries |
//! | `import.rs` | `import`: rows whose vectors are ready |
//! | `ingest.rs` | `ingest`: documents in, resumable |
//! | `inputs.rs` | the files that an ingest reads: folders and patterns expanded |
//! | `interrupt.rs` | Ctrl-C |
//! | `lds_methods.rs` | the scores that `eval lds` measures |
//! | `manual.rs` | `man`: the manual page |
//! | `matrix_file.rs` | matrices that verbs write |
//! | `measure_truth.rs` | `measure-truth`: what the data does, by retraining |
//! | `progress.rs` | progress bars |
//! | `query.rs` | `query`: the most influential rows |
//! | `repair.rs` | `repair`: a new catalog from the manifest |
//! | `run.rs` | from the typed line to the exit code |
//! | `schema.rs` | columns and fields as they are typed |
//! | `score.rs` | `score`: the dense matrix of queries and rows |
//! | `self_influence.rs` | `self`: how much each row influences itself |
//! | `session.rs` | what every verb gets: output, page, progress, cancellation |
//! | `stats.rs` | `stats`: what a store holds |
//! | `store.rs` | arguments that every verb on a store has, and opening it |
//! | `train_head.rs` | `train-head`: a classification head with the gradients of every row |
//! | `vector_file.rs` | files of ready vectors |
//! | `verify.rs` | `verify`: check every file |

mod alter;
mod arguments;
mod audit;
mod catalog_check;
mod compact;
mod completions;
mod convert;
mod create;
#[cfg(feature = "bert")]
mod damping_search;
mod delete;
mod demo;
mod duration;
mod eval;
mod eval_labels;
#[cfg(feature = "bert")]
mod eval_lds;
mod failure;
mod fit;
mod foreign_folder;
mod gradient_arguments;
mod import;
mod ingest;
mod inputs;
mod interrupt;
#[cfg(feature = "bert")]
mod lds_methods;
mod manual;
mod matrix_file;
#[cfg(feature = "bert")]
mod measure_truth;
mod progress;
mod query;
mod repair;
mod run;
mod schema;
mod score;
mod self_influence;
mod session;
mod stats;
mod store;
#[cfg(feature = "bert")]
mod train_head;
mod vector_file;
mod verify;

pub use catalog_check::CheckInChild;
pub use run::{command, run};
