//! `demo`: the whole main job on real data.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `artworks.rs` | the data: 4,284 artworks of the Tate collection |
//! | `classifier.rs` | why a classifier gets a work wrong |
//! | `folder.rs` | the folder that the demo may fill |
//! | `tour.rs` | the verb: step by step, with what to look at |

mod artworks;
#[cfg(feature = "bert")]
mod classifier;
mod folder;
mod tour;

pub(super) use tour::DemoArguments;
