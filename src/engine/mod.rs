//! Floor 5: the store.
//!
//! | file | what lives there |
//! | --- | --- |
