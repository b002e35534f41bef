//! A graph over the codes of a column: a few links from each row, along which the best rows of a query are found without
//! looking at all.
//!
//! ```text
//! build_graph: rows -> builder (native or hnsw_rs) -> Draft -> repair, measured recall -> FrozenGraph -> a graph file
//! Walker::walk: a query and a beam -> rows, best first, by codes
//! ```
//!
//! The graph is made once from sealed codes and never changed. Both builders give the same form, whoever walks over it need
//! not know which. A walk takes what it is led to from a mapped file that nobody vouches for but its checksums.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `beam.rs` | the walk that everything else is made of |
//! | `build_tests.rs` | tests: what graphs are made |
//! | `builder.rs` | makes the graph of a column, with either builder |
//! | `builder_hnsw_rs.rs` | the builder of the crate `hnsw_rs` (feature `hnsw_rs`) |
//! | `builder_native.rs` | the builder on codes, the default |
//! | `column.rs` | what a graph is made from and walked over |
//! | `contract.rs` | what recall a graph has, measured when it is made |
//! | `draft.rs` | a graph in the making |
//! | `duplicates.rs` | rows that are the same as another |
//! | `error.rs` | what can go wrong |
//! | `frozen.rs` | a finished graph, as a file holds it |
//! | `insert.rs` | puts rows into a graph, in batches |
//! | `partition.rs` | which rows stand in the graph, and which every walk scores |
//! | `repair.rs` | gives every row a way from the entry |
//! | `sample.rs` | rows in memory for the tests |
//! | `select.rs` | which of the rows near a row become its links |
//! | `space.rs` | similarities of rows to each other |
//! | `walk.rs` | walks over a finished graph |
//! | `walk_tests.rs` | tests: walks, over made-up graphs too |
//! | `work.rs` | the threads of a build, a few milliseconds at a time |

mod beam;
#[cfg(test)]
mod build_tests;
mod builder;
#[cfg(feature = "hnsw_rs")]
mod builder_hnsw_rs;
mod builder_native;
mod column;
mod contract;
mod draft;
mod duplicates;
mod error;
mod frozen;
mod insert;
mod partition;
mod repair;
#[cfg(test)]
mod sample;
mod select;
mod space;
mod walk;
#[cfg(test)]
mod walk_tests;
mod work;

pub use builder::{GraphBuilder, GraphOptions, build_graph};
#[cfg(feature = "hnsw_rs")]
pub use builder_hnsw_rs::HnswRsBuilder;
pub use builder_native::NativeBuilder;
pub use column::{GraphColumn, GraphRows, ReadError};
pub use draft::Draft;
pub use error::{BuildStop, GraphError};
pub use frozen::{FrozenColumn, FrozenGraph};
pub use space::CodedSpace;
pub use walk::{CoarseQuestion, Found, Walk, WalkCounts, Walker};
pub use work::GraphWork;
