//! Tests: what graphs are made, and that every row is found in them.

use super::sample::*;
use super::*;
use crate::base::limits::{GRAPH_BASE_LINKS, GRAPH_UPPER_LINKS};
use crate::base::{Cancel, RandomStream, checksum};
use crate::format::{GRAPH_NO_ROW, GraphHead, GraphMaker};
use crate::kernels::{CodeQueries, Kernels};

fn links_of(graph: &FrozenGraph, level: u32, row: u32) -> Vec<u32> {
    let mut links = Vec::new();
    graph.links_of(level, row, &mut links);
    links
}

/// What every graph must be, whatever its rows.
fn check(rows: &SampleRows, graph: &FrozenGraph) {
    let (head, row_count) = (&graph.head, rows.row_count());
    assert_eq!(GraphHead::decode(&head.encode(), row_count).as_ref(), Ok(head));
    assert_eq!(head.graph_rows + head.scanned_rows, row_count);
    assert_eq!(head.reachable_rows, row_count, "{head:?}");
    assert_eq!(4 * graph.links.len() as u64, head.links_length(row_count));
    assert_eq!(4 * graph.upper.len() as u64, head.upper_length());
    assert_eq!(graph.scanned.len() as u32, head.scanned_rows);
    assert!(graph.scanned.is_sorted());
    for row in 0..row_count {
        for level in 0..=head.level_rows.len() as u32 {
            let links = links_of(graph, level, row);
            assert!(!links.contains(&row), "row {row} links to itself");
            assert!(links.iter().all(|link| *link < row_count && graph.scanned.binary_search(link).is_err()));
            let mut different = links.clone();
            different.sort_unstable();
            different.dedup();
            assert_eq!(different.len(), links.len(), "row {row} links twice to another");
        }
    }
    if head.graph_rows > 0 {
        assert!(head.entry.is_some());
    }
}

#[test]
fn the_graph_is_the_same_with_one_and_two_threads_and_on_every_back_end() {
    let rows = of_many_norms(clustered(1200, 33, (40, 0.7), 1), 1.0);
    let options = GraphOptions { build_beam: 40, ..GraphOptions::default() };
    let one = build_with(&NativeBuilder, &rows, &options, 1).unwrap();
    check(&rows, &one);
    assert_eq!(build_with(&NativeBuilder, &rows, &options, 2).unwrap(), one);
    assert_eq!(build_with(&NativeBuilder, &rows, &options, 5).unwrap(), one);
    let scalar = GraphOptions { kernels: Kernels::by_name("scalar").unwrap(), ..options };
    assert_eq!(build_with(&NativeBuilder, &rows, &scalar, 2).unwrap(), one);
    let other = build_with(&NativeBuilder, &rows, &GraphOptions { seed: 1, ..options }, 2).unwrap();
    assert_ne!(other.links, one.links);
}

/// Numbers of one graph, so that a change of it is seen, and asked whether it was meant.
#[test]
fn recorded_graphs_stay_what_they_were() {
    let rows = clustered(2000, 48, (50, 0.7), 3);
    let options = GraphOptions { build_beam: 100, ..GraphOptions::default() };
    let graph = build_with(&NativeBuilder, &rows, &options, 2).unwrap();
    let links = graph.links.iter().filter(|link| **link != GRAPH_NO_ROW).count();
    let bytes: Vec<u8> = graph.links.iter().chain(&graph.upper).flat_map(|link| link.to_le_bytes()).collect();
    let query = CodeQueries::new(&[rows.row(17)]).unwrap();
    let column = FrozenColumn { rows: &rows, graph: &graph };
    let walk = Walk {
        kernels: Kernels::best(),
        query: &query,
        coarse: None,
        opponents: false,
        beam: 20,
        eligible: None,
    };
    let Found { rows: found, counts } = walk_once(&mut Walker::default(), &column, &walk).unwrap();
    let first: Vec<u32> = found.iter().take(5).map(|(row, _)| row.0).collect();
    let recorded = (links, graph.head.entry, graph.head.level_rows.clone(), checksum(&bytes));
    assert_eq!(recorded, (36_708, Some(1512), vec![110, 8], 8_384_491_651_566_966_385));
    assert_eq!((counts, first), (WalkCounts { hops: 23, rows: 256 }, vec![17, 1452, 60, 463, 1818]));
    let rows = rows.with_coarse();
    let coarse = CoarseQuestion::new(Kernels::best(), rows.row(17), &rows).unwrap();
    let (column, walk) =
        (FrozenColumn { rows: &rows, graph: &graph }, Walk { coarse: coarse.as_ref(), ..walk });
    let Found { rows: found, counts } = walk_once(&mut Walker::default(), &column, &walk).unwrap();
    let first: Vec<u32> = found.iter().take(5).map(|(row, _)| row.0).collect();
    assert_eq!((counts, first), (WalkCounts { hops: 27, rows: 266 }, vec![17, 60, 1452, 1226, 448]));
}

fn check_recall(name: &str, rows: &SampleRows, questions: &SampleRows, graph: &FrozenGraph) {
    check(rows, graph);
    for opponents in [false, true] {
        let promised = promised(graph, opponents);
        let recall = recall(rows, graph, questions, opponents, promised.beam.max(10) as usize);
        assert!(recall >= 0.95, "{name}, opponents {opponents}: {recall}, promised {promised:?}");
        assert!(promised.recall >= 0.95, "{name}: {promised:?}");
    }
}

#[test]
fn the_best_rows_of_both_ends_are_found_in_every_kind_of_rows() {
    let width = 32;
    let mut stream = RandomStream::new(5);
    let plain = clustered(1500, width, (1500, 0.7), 1);
    let near = clustered(600, width, (1, 0.01), 2);
    let mut near_first = near.values.clone();
    near_first.extend_from_slice(&plain.values[..900 * width]);
    let mut with_zeros = plain.values.clone();
    for row in with_zeros.chunks_exact_mut(width).filter(|_| stream.below(3) == 0) {
        row.fill(0.0);
    }
    let cases = [
        ("clustered", clustered(1500, width, (60, 0.7), 1)),
        ("random", plain.clone()),
        ("near duplicates first", SampleRows::of(width, near_first)),
        ("many norms", of_many_norms(plain, 3.0)),
        ("many norms, clustered", of_many_norms(clustered(1500, width, (60, 0.7), 4), 3.0)),
        ("a third zeros", SampleRows::of(width, with_zeros)),
    ];
    let questions = clustered(40, width, (60, 0.7), 9);
    for (name, rows) in cases {
        check_recall(name, &rows, &questions, &build(&rows));
        let rows = rows.with_coarse();
        check_recall(&format!("{name}, coarse codes"), &rows, &questions, &build(&rows));
    }
}

#[test]
fn every_row_is_found_by_its_own_vector() {
    let rows = clustered(1000, 32, (30, 0.5), 6);
    let graph = build(&rows);
    let column = FrozenColumn { rows: &rows, graph: &graph };
    let mut walker = Walker::default();
    for row in 0..1000 {
        let query = CodeQueries::new(&[rows.row(row)]).unwrap();
        let walk = Walk {
            kernels: Kernels::best(),
            query: &query,
            coarse: None,
            opponents: false,
            beam: 64,
            eligible: None,
        };
        let found = walk_once(&mut walker, &column, &walk).unwrap().rows;
        assert!(found.iter().take(3).any(|(found, _)| found.0 == row), "row {row}: {:?}", &found[..3]);
    }
}

#[test]
fn rows_that_are_the_same_are_all_found() {
    let one = clustered(1, 32, (1, 0.5), 1);
    let equal = SampleRows::of(32, one.values.repeat(3000));
    let zeros = SampleRows::of(32, vec![0.0; 32 * 500]);
    let mut some = clustered(800, 32, (20, 0.7), 2).values;
    some.extend(one.values.repeat(1200));
    let some = SampleRows::of(32, some);
    for (rows, copies, first) in [(&equal, 3000, 0), (&some, 1200, 800)] {
        let graph = build(rows);
        check(rows, &graph);
        let column = FrozenColumn { rows, graph: &graph };
        let query = CodeQueries::new(&[&one.values]).unwrap();
        let walk = Walk {
            kernels: Kernels::best(),
            query: &query,
            coarse: None,
            opponents: false,
            beam: copies,
            eligible: None,
        };
        let found = walk_once(&mut Walker::default(), &column, &walk).unwrap().rows;
        let mut rows: Vec<u32> = found.iter().map(|(row, _)| row.0).collect();
        rows.sort_unstable();
        assert!(rows.iter().copied().eq(first..first + copies as u32), "{} rows from {first}", rows.len());
    }
    check(&zeros, &build(&zeros));
    // The copies do not push the others away.
    let questions = clustered(40, 32, (20, 0.7), 3);
    check_recall("with copies", &some, &questions, &build(&some));
}

#[test]
fn the_smallest_columns_have_graphs() {
    let all = clustered(40, 8, (40, 1.0), 1);
    for count in [0, 1, 2, 3, GRAPH_UPPER_LINKS as usize, GRAPH_UPPER_LINKS as usize + 1, 40] {
        let rows = SampleRows::of(8, all.values[..8 * count].to_vec());
        let graph = build(&rows);
        check(&rows, &graph);
        let query = CodeQueries::new(&[all.row(0)]).unwrap();
        let walk = Walk {
            kernels: Kernels::best(),
            query: &query,
            coarse: None,
            opponents: false,
            beam: 64,
            eligible: None,
        };
        let column = FrozenColumn { rows: &rows, graph: &graph };
        let found = walk_once(&mut Walker::default(), &column, &walk).unwrap().rows;
        let rows: Vec<u32> = found.iter().map(|(row, _)| row.0).collect();
        let expected: Vec<u32> = all_of(&rows_best(&all, &query, count));
        assert_eq!(rows, expected, "{count} rows");
    }
}

fn rows_best(rows: &SampleRows, query: &CodeQueries, count: usize) -> Vec<(f32, u32)> {
    SampleRows::of(rows.width, rows.values[..rows.width * count].to_vec()).best(query, false, count)
}

fn all_of(rows: &[(f32, u32)]) -> Vec<u32> {
    rows.iter().map(|(_, row)| *row).collect()
}

#[test]
fn rows_of_large_norm_are_set_apart() {
    let mut values = clustered(1000, 16, (1000, 1.0), 1).values;
    values[16 * 7..16 * 8].iter_mut().for_each(|value| *value *= 50.0);
    values[16 * 9..16 * 10].fill(f32::MAX);
    let rows = SampleRows::of(16, values);
    let graph = build(&rows);
    check(&rows, &graph);
    // Ten of a thousand, and the one whose norm is beyond f32.
    assert_eq!(graph.scanned.len(), 11);
    assert!(graph.scanned.contains(&7) && graph.scanned.contains(&9));
    assert!(graph.head.graph_norm < 1.001 && graph.head.largest_norm == f32::INFINITY);
    let even = clustered(1000, 16, (1000, 1.0), 1);
    assert_eq!(build(&even).scanned, [0; 0]);
}

#[test]
fn building_ends_when_it_is_cancelled_or_bytes_are_damaged() {
    let mut rows = clustered(500, 16, (10, 0.7), 1);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let cancel = Cancel::new();
    let other = cancel.clone();
    let mut done = 0;
    let mut advance = |rows| {
        done += rows;
        if done > 100 {
            other.cancel();
        }
    };
    let mut work = GraphWork { pool: &pool, pause: &|| (), cancel: &cancel, advance: &mut advance };
    let result = build_graph(&NativeBuilder, &rows, &GraphOptions::default(), &mut work);
    assert!(matches!(result, Err(GraphError::Cancelled)));
    assert!(done < 110);
    rows.damaged = Some(377);
    let result = build_with(&NativeBuilder, &rows, &GraphOptions::default(), 1);
    assert!(matches!(result, Err(GraphError::Read(Damaged(377)))));
    rows.damaged = None;
    rows.scales.pop();
    let result = build_with(&NativeBuilder, &rows, &GraphOptions::default(), 1);
    assert!(matches!(result, Err(GraphError::Length { what: "scales", rows: 500, bytes: 1999 })));
}

#[cfg(feature = "hnsw_rs")]
#[test]
fn the_other_builder_agrees_and_finds_no_more() {
    let rows = clustered(1500, 32, (60, 0.7), 1);
    let questions = clustered(100, 32, (60, 0.7), 9);
    let options = GraphOptions { build_beam: 100, ..GraphOptions::default() };
    let theirs = build_with(&HnswRsBuilder, &rows, &options, 1).unwrap();
    assert_eq!(theirs.head.maker, GraphMaker::HnswRs);
    assert_eq!(build_with(&HnswRsBuilder, &rows, &options, 2).unwrap(), theirs);
    check_recall("hnsw_rs", &rows, &questions, &theirs);
    let ours = build_with(&NativeBuilder, &rows, &options, 1).unwrap();
    for beam in [10, 16, 32] {
        let [ours, theirs] = [&ours, &theirs].map(|graph| recall(&rows, graph, &questions, false, beam));
        assert!(ours >= theirs - 0.005, "beam {beam}: {ours} and {theirs}");
    }
    let varied = of_many_norms(rows, 3.0);
    check_recall(
        "hnsw_rs, many norms",
        &varied,
        &questions,
        &build_with(&HnswRsBuilder, &varied, &options, 1).unwrap(),
    );
    for count in [0, 1, 2, 40] {
        let few = clustered(count, 8, (40, 1.0), 1);
        check(&few, &build_with(&HnswRsBuilder, &few, &options, 1).unwrap());
    }
}

#[test]
fn links_are_no_more_than_a_head_says() {
    let graph = build(&clustered(400, 8, (4, 0.3), 1));
    assert_eq!((graph.head.base_links, graph.head.upper_links), (GRAPH_BASE_LINKS, GRAPH_UPPER_LINKS));
    assert_eq!(graph.head.maker, GraphMaker::Native);
}
