//! Floor 2: bytes to structs and back, no I/O.
//!
//! | file | what lives there |
//! | --- | --- |
