//! Floor 5: the store. Knows `dyn Encoder` and `dyn Storage`, never a model library or a file system.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `alter.rs` | schema changes: declare a field, add or drop a column |
//! | `answer.rs` | questions and answers |
//! | `background.rs` | work on a thread of its own |
//! | `batch.rs` | documents to checked rows: keys, fields, vectors |
//! | `buffers.rs` | memory for the scores of a query, kept for the next one |
//! | `channel.rs` | a channel between stages, bounded by items and bytes |
//! | `coarse_pass.rs` | rows of a segment with an index, looked at by coarse codes first |
//! | `code_layout.rs` | codes of coordinates: how they stand, how they are made and compared |
//! | `coding.rs` | an index on its way to the disk |
//! | `compact.rs` | merging segments: in the background, and all at once |
//! | `compact_error.rs` | what can keep segments from being merged |
//! | `compact_plan.rs` | which segments to merge |
//! | `compare.rs` | whether merged rows answer as they did before |
//! | `context.rs` | what all parts of an open store share: storage, threads, kernels, encoders |
//! | `curvature.rs` | a fitted curvature, ready to weigh gradients |
//! | `delete.rs` | deleting by key or predicate |
//! | `derived.rs` | files that are made from a segment's columns |
//! | `encoders.rs` | the encoder of each column: built in, given, fitted at the first rows |
//! | `filling.rs` | what an import brings beside keys and texts |
//! | `fit.rs` | fitting a curvature to the gradients of a column |
//! | `fit_codes.rs` | codes of half-whitened gradients, computed with a fit |
//! | `fit_file.rs` | what a fit keeps, and its bytes in a curvature file |
//! | `fit_input.rs` | what a fit is computed from |
//! | `fit_lengths.rs` | lengths of whitened gradients, computed with a fit |
//! | `fit_options.rs` | what is to be fitted, and what a fit did |
//! | `fit_sums.rs` | what the gradients of all live rows add up to, segment by segment |
//! | `gather.rs` | first stages of an ingest: reading, and the documents of a commit |
//! | `gradient_codes.rs` | nearly the scores of all rows, by codes |
//! | `gradient_column.rs` | what a sketch column says of itself, and what was measured of its rows |
//! | `gradient_error.rs` | what can keep gradients from being fitted or asked about |
//! | `gradient_lengths.rs` | how long each row's whitened gradient is |
//! | `gradient_query.rs` | from a gradient to the rows at both ends |
//! | `gradient_question.rs` | what a gradient stands for, member by member |
//! | `gradient_ranking.rs` | the rows at both ends of scores that are known nearly |
//! | `gradient_rows.rs` | the gradients of all rows, block by block |
//! | `gradient_scores.rs` | scores of all rows for some gradients, member by member |
//! | `head_column.rs` | the gradients of a classification head as a column, and its head kept beside it |
//! | `hybrid_query.rs` | rows found by embeddings or by codes, scored by gradients |
//! | `import.rs` | rows whose vectors are ready, in one commit |
//! | `indexing.rs` | building the index of each column of each segment |
//! | `ingest.rs` | documents in, commit by commit, resumable: the stages, and writing |
//! | `ingest_report.rs` | what an ingest tells |
//! | `ingest_tests.rs` | its stages with encoders that watch, wait and fail |
//! | `kept.rs` | what was made for a state by those who ask it |
//! | `kept_samples.rs` | codes of some rows of each target, gathered once and kept |
//! | `labelled_table.rs` | rows with their embeddings and labels |
//! | `lanes.rs` | encoding on every device at once |
//! | `ledger.rs` | the writer and its newest state, shared with what works beside the store |
//! | `matrix_column.rs` | vectors of a matrix to a column file, on a thread of their own |
//! | `member_codes.rs` | 8-bit codes of coordinates, row by row |
//! | `merge.rs` | several segments written anew as one |
//! | `options.rs` | what callers say when they create, open and fill a store |
//! | `packing.rs` | texts to encoding tasks |
//! | `plan.rs` | whether rows are scanned or found by walking a graph |
//! | `prepare.rs` | middle stage of an ingest: fitting, known keys, texts made ready |
//! | `query.rs` | from a question to the rows at both ends |
//! | `query_error.rs` | what can keep a question from being answered |
//! | `retirement.rs` | letting go of segments on a thread of its own |
//! | `rows_of_fit.rs` | the rows that a curvature was fitted to, as far as they are still there |
//! | `sample.rs` | rows drawn by chance |
//! | `sampled_codes.rs` | codes of some rows of a segment, side by side |
//! | `scan.rs` | scores of all rows of a snapshot, and the rows of both ends |
//! | `scanning.rs` | what the parts of a scan share |
//! | `score.rs` | learned scores of all rows |
//! | `segment.rs` | the open files of a segment |
//! | `sketch_column.rs` | gradients of a sketch file to column files |
//! | `snapshot.rs` | a committed state that does not change while it is held |
//! | `statistics.rs` | what a store holds |
//! | `store.rs` | opening: the writer and the readers |
//! | `target.rs` | what is asked, and of which rows |
//! | `traffic.rs` | queries go before work that nobody waits for |
//! | `transaction.rs` | new segments, deletes and schema changes on their way to one commit |
//! | `turns.rs` | who may change the store |
//! | `unusual.rs` | how unusual the scores of an answer are |
//! | `verify.rs` | checking every file of a store |
//! | `walk.rs` | rows of segments with a graph, found by walking it |
//! | `walkers.rs` | memory for walks, kept for the next one |
//! | `wanted_codes.rs` | which codes a curvature can keep |
//! | `whitened_lengths.rs` | how long gradients are once they are whitened |
//! | `write.rs` | rows and vectors to the files of a new segment |

mod alter;
mod answer;
mod background;
mod batch;
mod buffers;
mod channel;
mod coarse_pass;
mod code_layout;
mod coding;
mod compact;
mod compact_error;
mod compact_plan;
mod compare;
mod context;
mod curvature;
mod delete;
mod derived;
mod encoders;
mod filling;
mod fit;
mod fit_codes;
mod fit_file;
mod fit_input;
mod fit_lengths;
mod fit_options;
mod fit_sums;
mod gather;
mod gradient_codes;
mod gradient_column;
mod gradient_error;
mod gradient_lengths;
mod gradient_query;
mod gradient_question;
mod gradient_ranking;
mod gradient_rows;
mod gradient_scores;
mod head_column;
mod hybrid_query;
mod import;
mod indexing;
mod ingest;
mod ingest_report;
#[cfg(test)]
mod ingest_tests;
mod kept;
mod kept_samples;
mod labelled_table;
mod lanes;
mod ledger;
mod matrix_column;
mod member_codes;
mod merge;
mod options;
mod packing;
mod plan;
mod prepare;
mod query;
mod query_error;
mod retirement;
mod rows_of_fit;
mod sample;
mod sampled_codes;
mod scan;
mod scanning;
mod score;
mod segment;
mod sketch_column;
mod snapshot;
mod statistics;
mod store;
mod target;
mod traffic;
mod transaction;
mod turns;
mod unusual;
mod verify;
mod walk;
mod walkers;
mod wanted_codes;
mod whitened_lengths;
mod write;

pub use alter::AlterError;
pub use answer::{
    Answer, ColumnStatistics, CurvatureStatistics, GraphStatistics, Hit, IndexStatistics, Problem, Query,
    QueryInput, QueryStages, Row, Statistics, VerifyReport, Without,
};
pub use batch::BatchError;
pub use code_layout::CodeBits;
pub use compact::CompactReport;
pub use compact_error::CompactError;
pub use delete::{DeleteError, DeleteReport, DeleteSelection};
pub use encoders::EncoderError;
pub use fit_file::FactorsOrigin;
pub use fit_options::{CodesReport, FitOptions, FitReport};
pub use fit_sums::FitSums;
pub use gradient_column::{GradientColumn, GradientHead};
pub use gradient_error::GradientError;
pub use gradient_query::{GradientInput, GradientQuery, MemberScores};
pub use head_column::{HeadColumn, LabelledRow, LabelledText};
pub use hybrid_query::{HybridCandidates, HybridQuestion};
pub use import::{Import, ImportError, ImportReport};
pub use indexing::{IndexError, IndexReport};
pub use ingest_report::{Committed, IngestCommit, IngestError, IngestReport};
pub use labelled_table::LabelledTable;
pub use ledger::Snapshots;
pub use options::{
    ColumnDefinition, ColumnEncoder, CreateOptions, EMBEDDING_COLUMN_NAME, IngestOptions, OnDuplicate,
    OpenOptions, SKETCH_COLUMN_NAME, Watch,
};
pub use plan::Plan;
pub use query_error::QueryError;
pub use snapshot::Snapshot;
pub use store::{CreateError, OpenError, Reader, Store};
pub use transaction::TransactionError;
pub use verify::verify;
