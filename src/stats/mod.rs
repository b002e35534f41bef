//! Floor 1: statistics. Pure functions of numbers; what they need of chance comes from a seed.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `bootstrap.rs` | how sure a mean is: intervals from resampling |

mod bootstrap;

pub use bootstrap::{Interval, mean_interval};
