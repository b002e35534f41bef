//! Floor 7: what every face shows.
//!
//! | file | what lives there |
//! | --- | --- |
