//! ascribe: an embedded database that tells which training data made a model do what it did.
//!
//! Start with [`engine::Store`] (writes), [`engine::Reader`] (reads beside a writer, in any process) and
//! [`engine::Query`]. The command line is this library with arguments.
//!
//! # The house
//!
//! Rooms stand on floors; a file imports only from lower floors, or from its own folder without a circle. A test holds
//! that, and who may use which external crate.
//!
//! | floor | room | what lives there |
//! | --- | --- | --- |
//! | 0 | [`base`] | numbers, limits, checked bytes, checksums, random streams, row sets, progress and cancellation |
//! | 1 | [`kernels`] | dot products: a scalar specification, AVX2 and AVX-512, all bit for bit the same |
//! | 1 | [`stats`] | rank correlation, discrimination, normal scores, intervals from resampling |
//! | 1 | [`filter`] | SQL conditions over declared metadata fields, evaluated to row sets |
//! | 2 | [`mod@format`] | bytes to structs and back; the twin of the pages in `storage-format/` |
//! | 2 | [`sources`] | readers of JSON Lines, CSV, text, npy and safetensors |
//! | 3 | [`storage`] | files with explicit durability, on a disk or simulated; catalog, commit, manifest, pins |
//! | 3 | [`index`] | which rows are looked at: all of them, by codes with a bound or by stored values, or those that a graph leads to |
//! | 3 | [`sketch`] | compressed gradients of rows: their schema, their layout, the files that collectors write |
//! | 4 | [`curvature`] | how gradients are weighed against each other: margin kernel, damped Fisher, diagonal |
//! | 4 | [`encoder`] | text to vectors, behind one trait with a content fingerprint |
//! | 4 | [`attribution`] | both ends of a set of scores, in a total order; how unusual a score is |
//! | 5 | [`engine`] | the store: create, open, ingest, import, delete, alter, compact, query, verify |
//! | 6 | [`evaluation`] | how good the answers are: recall against exact answers, linear datamodelling score against retrained models |
//! | 6 | [`monitor`] | what to look at: rows whose label is probably wrong |
//! | 6 | `training` | training of heads; the truth by retraining on halves (feature `bert`) |
//! | 7 | `answers` | what every face shows, as JSON, JSON Lines, CSV and tables (feature `cli`) |
//! | 9 | `cli` | the command line (feature `cli`) |
//!
//! # The way of a document
//!
//! A [`sources::Source`] gives documents one at a time, from a thread of its own. The engine gathers them into batches,
//! gives each its key, applies the policy for keys that are there already, has the texts encoded in parallel, and
//! writes a segment: one row file, and one file for each column. Files are durable before the one catalog transaction
//! that names them; the manifest that readers follow is published after it. Then the commit is acknowledged.
//!
//! # The way of a query
//!
//! A question becomes a vector. A plan is made for each segment: every row is scored by its codes (of 4 bits a value, then of 8
//! where those do not exclude it), each score with a margin for what the codes leave out; or a graph over the codes is walked
//! where that was measured to find enough and costs less; or, where a filter passes few rows, only those are scored.
//! Rows that may be among the `k` strongest at either end are then scored exactly, on the values that are stored; a filter
//! decides which rows may be. Where all rows were scored, percentiles are those of exact scores of all live rows. The final
//! order is total (ties go by key), so the same question has the same answer every time.
//!
//! Codes and graphs are derived from column files in the background. Small segments are merged in the background too, by a
//! worker that takes its turn between the writer's transactions.
//!
//! # What can be relied on
//!
//! An acknowledged commit survives a crash at any moment, whole; a commit on its way is there whole or not at all. Files
//! are checked when they are opened (header, footer, length, identity) and block by block when they are first read. A
//! damaged file is a typed error, never a wrong answer. Readers see one commit, unchanged, for as long as they hold it.

pub mod attribution;
pub mod base;
pub mod curvature;
pub mod encoder;
pub mod engine;
pub mod evaluation;
pub mod filter;
pub mod format;
pub mod index;
pub mod kernels;
pub mod monitor;
pub mod sketch;
pub mod sources;
pub mod stats;
pub mod storage;

#[cfg(feature = "bert")]
pub mod training;

#[cfg(feature = "cli")]
pub mod answers;
#[cfg(feature = "cli")]
pub mod cli;

/// The example in the README is a doctest.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
