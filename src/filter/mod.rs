//! Floor 1: filter expressions over declared metadata fields.
//!
//! | file | what lives there |
//! | --- | --- |
