//! The storage on a real file system.
