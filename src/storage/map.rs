//! The only memory map.
