//! Directories and states with something wrong in them: refused with what it is, never a panic.
