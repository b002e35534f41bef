//! Folders that other attribution tools write: gradients of rows, scores, curvature factors.
//!
//! Each reader knows one tool's layout and its conventions of sign and scale, turns them into this project's (gradients of
//! the loss, summed; a positive score is a proponent), and says so in notes. Torch pickles are recognised and never loaded.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `bergson.rs` | index folders of bergson |
//! | `error.rs` | what can be wrong with such a folder |
//! | `file_names.rs` | the names of the files that are read |
//! | `files.rs` | the files of a folder, and their checks |
//! | `gradients.rs` | gradients of rows, converted, row by row |
//! | `kronfluence.rs` | factors and scores of kronfluence |
//! | `logix.rs` | gradient logs of LogIX |
//! | `pickle.rs` | torch pickles: recognised, never loaded |
//! | `read.rs` | from a folder to the reader of its tool |
//! | `scores.rs` | scores of rows for queries, query by query |
//! | `tool.rs` | which tools there are, and how their folders are told apart |
//! | `trak.rs` | save folders of TRAK |
//! | `yaml.rs` | single settings of a YAML file |

mod bergson;
mod error;
mod file_names;
mod files;
mod gradients;
mod kronfluence;
mod logix;
mod pickle;
mod read;
mod scores;
mod tool;
mod trak;
mod yaml;

pub use error::ForeignError;
pub use files::ForeignFiles;
pub use gradients::{ForeignGradients, ForeignModule, ForeignOrigin};
pub use kronfluence::{ForeignFactor, ForeignFactors};
pub use scores::ForeignScores;
pub use tool::{ForeignOptions, ForeignTool};
