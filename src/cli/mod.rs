//! Floor 9: the command line.
//!
//! | file | what lives there |
//! | --- | --- |
