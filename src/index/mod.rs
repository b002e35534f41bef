//! Floor 3: which rows are looked at.
//!
//! | file | what lives there |
//! | --- | --- |
