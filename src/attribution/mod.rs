//! Floor 4: signed scores and who is at either end.
//!
//! | file | what lives there |
//! | --- | --- |
