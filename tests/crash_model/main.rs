//! Random sequences of ingest, import, upsert, delete, alter, compaction, index building, spoilt index files, reopening and
//! crashes on the simulated disk, against a plain map with brute force.
//!
//! After every reopening the store must hold exactly the acknowledged state, or that state with the one commit that was
//! on its way, whole. `ASCRIBE_SEED=N cargo test --test crash_model one_seed -- --nocapture` repeats one sequence
//! (but for the moments at which indexes are built: that is done in the background).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may fail loudly"
)]

mod check;
mod model;
mod run;

use run::{Totals, run_seed};

/// Sequences of one test; there are four, so that they share the cores.
const SEEDS_PER_TEST: u64 = 44;
/// Crashes that each test must have seen: together more than two thousand.
const CRASHES_PER_TEST_MIN: u64 = 600;

fn run_seeds(first: u64) {
    let mut totals = Totals::default();
    for seed in first..first + SEEDS_PER_TEST {
        run_seed(seed, &mut totals);
    }
    println!("{totals:?}");
    assert!(totals.crashes >= CRASHES_PER_TEST_MIN, "only {} crashes were seen", totals.crashes);
    assert!(totals.kept_unacknowledged > 0 && totals.lost_unacknowledged > 0, "{totals:?}");
}

#[test]
fn crashes_of_the_first_sequences() {
    run_seeds(0);
}

#[test]
fn crashes_of_the_second_sequences() {
    run_seeds(1000);
}

#[test]
fn crashes_of_the_third_sequences() {
    run_seeds(2000);
}

#[test]
fn crashes_of_the_fourth_sequences() {
    run_seeds(3000);
}

#[test]
fn one_seed() {
    if let Ok(seed) = std::env::var("ASCRIBE_SEED") {
        let mut totals = Totals::default();
        run_seed(seed.parse().expect("ASCRIBE_SEED is a number"), &mut totals);
        println!("{totals:?}");
    }
}
