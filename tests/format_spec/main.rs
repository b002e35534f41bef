//! `storage-format/` against the code: every table of those pages is read and compared with the constants and with the
//! bytes that the code writes. Run alone: `cargo test --test format_spec`.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `bert_state.rs` | the state of a learned encoder |
//! | `body.rs` | a decoder of record bodies that knows only what the pages say |
//! | `columns.rs` | column files: every element type, embeddings, dense and factored sketches |
//! | `constants.rs` | constants, limits, checksums of known bytes |
//! | `crash.rs` | a power cut after each step of a commit |
//! | `creation.rs` | a power cut at each sync while a store is created |
//! | `failures.rs` | changed, cut, missing and exchanged files, and the error that each leads to |
//! | `full.rs` | an operation of a commit that fails, and a full medium |
//! | `golden.rs` | files of format version 0, byte for byte |
//! | `graphs.rs` | graph files: head, links, levels, damage |
//! | `indexes.rs` | index files: codes and their errors |
//! | `manifest.rs` | manifest, CURRENT and pins |
//! | `pages.rs` | the tables of a page |
//! | `projection.rs` | the generator of random projections |
//! | `records.rs` | catalog records, their frame, tables of the catalog |
//! | `repair.rs` | what `repair` chooses, and a power cut at each of its syncs |
//! | `rows.rs` | row files and encoder files |
//! | `sample.rs` | small contents with distinctive values |
//! | `sealed.rs` | a reader of sealed files that knows only what the pages say |
//! | `sums.rs` | sums files: head, sums, damage |

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[cfg(feature = "bert")]
mod bert_state;
mod body;
mod columns;
mod constants;
mod crash;
mod creation;
mod failures;
mod full;
mod golden;
mod graphs;
mod indexes;
mod manifest;
mod pages;
mod projection;
mod records;
mod repair;
mod rows;
mod sample;
mod sealed;
mod sums;
