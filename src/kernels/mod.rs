//! Floor 1: dot products over stored values.
//!
//! | file | what lives there |
//! | --- | --- |
