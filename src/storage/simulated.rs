//! A storage in memory that crashes like a disk.
