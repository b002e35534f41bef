//! Tests: walks with a filter, over damaged bytes, and over graphs that somebody made up; repair and the diversity rule.

use super::beam::Scored;
use super::repair::{reachable, repair};
use super::sample::*;
use super::select::Selection;
use super::*;
use crate::base::{Cancel, RandomStream, RowId, RowSet};
use crate::format::GRAPH_NO_ROW;
use crate::kernels::{CodeQueries, Kernels};

fn walk<'a>(query: &'a CodeQueries, beam: usize) -> Walk<'a> {
    Walk { kernels: Kernels::best(), query, coarse: None, opponents: false, beam, eligible: None }
}

type Walked = (WalkCounts, Vec<(RowId, f64)>);

fn walked(rows: &SampleRows, graph: &FrozenGraph, walk: &Walk<'_>) -> Result<Walked, GraphError<Damaged>> {
    let Found { rows, counts } = walk_once(&mut Walker::default(), &FrozenColumn { rows, graph }, walk)?;
    Ok((counts, rows))
}

#[test]
fn scores_are_those_of_codes_towards_the_end() {
    let rows = of_many_norms(clustered(500, 16, (20, 0.7), 1), 1.0);
    let graph = build(&rows);
    let query = CodeQueries::new(&[&[0.3; 16]]).unwrap();
    for opponents in [false, true] {
        let (_, found) = walked(&rows, &graph, &Walk { opponents, ..walk(&query, 500) }).unwrap();
        assert_eq!(found.len(), 500);
        let expected = rows.best(&query, opponents, 500);
        for ((row, score), (sum, expected)) in found.iter().zip(expected) {
            let exact = f64::from(sum) * query.queries()[0].scale;
            assert!(
                (score - exact).abs() <= 1e-5 * exact.abs().max(1e-3),
                "{row} {score}: {expected} {exact}"
            );
        }
    }
}

#[test]
fn only_eligible_rows_are_found_and_a_filter_costs_little_recall() {
    let rows = clustered(2000, 32, (60, 0.7), 1);
    let graph = build(&rows);
    let questions = clustered(30, 32, (60, 0.7), 9);
    for part in [2, 5] {
        let eligible: RowSet = (0..2000).filter(|row| row % part == 0).map(RowId).collect();
        let (mut hits, mut wanted) = (0, 0);
        for question in 0..30 {
            let query = CodeQueries::new(&[questions.row(question)]).unwrap();
            let walk = Walk { eligible: Some(&eligible), ..walk(&query, 64) };
            let (_, found) = walked(&rows, &graph, &walk).unwrap();
            assert!(found.len() <= 64 && found.iter().all(|(row, _)| eligible.contains(*row)));
            let best = rows.best(&query, false, 2000);
            let best: Vec<RowId> = best
                .iter()
                .map(|(_, row)| RowId(*row))
                .filter(|row| eligible.contains(*row))
                .take(10)
                .collect();
            hits += best.iter().filter(|row| found.iter().any(|(found, _)| found == *row)).count();
            wanted += best.len();
        }
        assert!(hits as f64 >= 0.95 * wanted as f64, "one in {part}: {hits} of {wanted}");
    }
    let query = CodeQueries::new(&[questions.row(0)]).unwrap();
    let nobody = RowSet::new();
    let (counts, found) =
        walked(&rows, &graph, &Walk { eligible: Some(&nobody), ..walk(&query, 16) }).unwrap();
    assert!(found.is_empty() && counts.rows < 2000);
}

#[test]
fn a_walker_gives_the_same_the_second_time() {
    let (rows, more) = (clustered(300, 16, (20, 0.7), 1), clustered(900, 16, (20, 0.7), 2));
    let (graph, larger) = (build(&rows), build(&more));
    let query = CodeQueries::new(&[rows.row(3)]).unwrap();
    let mut walker = Walker::default();
    for _ in 0..3 {
        for (rows, graph) in [(&rows, &graph), (&more, &larger)] {
            let found = walk_once(&mut walker, &FrozenColumn { rows, graph }, &walk(&query, 20)).unwrap();
            assert_eq!((found.counts, found.rows), walked(rows, graph, &walk(&query, 20)).unwrap());
        }
    }
}

#[test]
fn walks_in_turns_find_what_each_finds_alone() {
    let rows = of_many_norms(clustered(900, 16, (20, 0.7), 2), 1.0).with_coarse();
    let graph = build(&rows);
    let queries: Vec<CodeQueries> =
        (0..9).map(|row| CodeQueries::new(&[rows.row(100 * row)]).unwrap()).collect();
    let coarse = |row: u32| CoarseQuestion::new(Kernels::best(), rows.row(100 * row), &rows).unwrap();
    let coarse: Vec<_> = (0..9).map(coarse).collect();
    let few: RowSet = (0..900).step_by(3).map(RowId).collect();
    for with_coarse in [false, true] {
        // Of different lengths, so that some end early.
        let walks: Vec<Walk<'_>> = (0..9)
            .map(|place| Walk {
                coarse: coarse[place].as_ref().filter(|_| with_coarse),
                opponents: place % 2 == 1,
                eligible: (place % 3 == 2).then_some(&few),
                ..walk(&queries[place], [1, 20, 300][place % 3])
            })
            .collect();
        let column = FrozenColumn { rows: &rows, graph: &graph };
        for found in Walker::default().walk(&column, &walks).unwrap().into_iter().zip(&walks) {
            assert_eq!((found.0.counts, found.0.rows), walked(&rows, &graph, found.1).unwrap());
        }
    }
    assert!(Walker::default().walk(&FrozenColumn { rows: &rows, graph: &graph }, &[]).unwrap().is_empty());
}

#[test]
fn scores_by_coarse_codes_are_near_those_of_values() {
    let rows = clustered(700, 48, (20, 0.7), 4).with_coarse();
    let graph = build(&rows);
    let vector = clustered(1, 48, (20, 0.7), 8);
    let query = CodeQueries::new(&[vector.row(0)]).unwrap();
    let coarse = CoarseQuestion::new(Kernels::best(), vector.row(0), &rows).unwrap();
    for opponents in [false, true] {
        let (_, found) =
            walked(&rows, &graph, &Walk { opponents, coarse: coarse.as_ref(), ..walk(&query, 700) }).unwrap();
        assert_eq!(found.len(), 700);
        let sign = if opponents { -1.0 } else { 1.0 };
        let errors = found.iter().map(|(row, score)| {
            let exact: f32 =
                rows.row(row.0).iter().zip(vector.row(0)).map(|(left, right)| left * right).sum();
            (score * sign - f64::from(exact)).abs()
        });
        let errors: Vec<f64> = errors.collect();
        // A row of norm 1 has steps of about 1/20, and its error a deviation of that over the square root of 12.
        assert!(errors.iter().sum::<f64>() / 700.0 < 0.02, "{errors:?}");
        assert!(errors.iter().all(|error| *error < 0.1), "{errors:?}");
    }
    let narrow = CoarseQuestion::new(Kernels::best(), &[1.0; 47], &rows).unwrap_err();
    assert!(matches!(narrow, GraphError::Width { query: 47, column: 48 }), "{narrow}");
}

#[test]
fn made_up_graphs_end_in_an_answer_or_an_error() {
    let rows = of_many_norms(clustered(400, 16, (20, 0.7), 1), 1.0);
    let graph = build(&rows);
    let query = CodeQueries::new(&[rows.row(3)]).unwrap();
    let mut stream = RandomStream::new(8);
    let (mut answers, mut errors) = (0, 0);
    for round in 0..300 {
        let mut changed = graph.clone();
        let FrozenGraph { head, links, upper, scanned } = &mut changed;
        // Numbers of rows that exist, that just do not, and any.
        let bound = [400, 402, 1 << 32][round % 3];
        let mut number = || stream.below(bound) as u32;
        match round / 3 % 6 {
            0 => links.fill_with(&mut number),
            1 => links.iter_mut().enumerate().for_each(|(place, link)| *link = (place as u32 / 32 + 1) % 400),
            2 => upper.fill_with(&mut number),
            3 => head.entry = Some(number()),
            4 => scanned.fill_with(&mut number),
            _ => {
                for _ in 0..40 {
                    let place = number() as usize % links.len();
                    links[place] = number();
                }
            }
        }
        match walked(&rows, &changed, &walk(&query, 400)) {
            Ok((counts, found)) => {
                assert!(counts.hops <= 500 && found.iter().all(|(row, _)| row.0 < 400));
                assert!(
                    found
                        .iter()
                        .enumerate()
                        .all(|(place, (row, _))| found[..place].iter().all(|f| f.0 != *row))
                );
                answers += 1;
            }
            Err(GraphError::NoSuchRow { row, rows: 400 }) => {
                assert!(row >= 400);
                errors += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(answers > 50 && errors > 50, "{answers} {errors}");
    let mut empty = graph;
    empty.links.fill(GRAPH_NO_ROW);
    assert!(walked(&rows, &empty, &walk(&query, 400)).unwrap().1.len() < 20);
    for (links, scanned) in [(vec![], vec![]), (vec![1; 7], vec![])] {
        let cut = FrozenGraph { links, scanned, upper: vec![], ..empty.clone() };
        walked(&rows, &cut, &walk(&query, 400)).unwrap();
    }
}

#[test]
fn numbers_that_are_none_and_other_widths_do_no_harm() {
    let mut rows = clustered(300, 16, (20, 0.7), 1);
    let graph = build(&rows);
    let query = CodeQueries::new(&[rows.row(3)]).unwrap();
    for row in 0..300 {
        let scale = [f32::NAN, f32::INFINITY, f32::MAX, -1.0][row % 4];
        rows.scales[4 * row..4 * row + 4].copy_from_slice(&scale.to_le_bytes());
    }
    walked(&rows, &graph, &walk(&query, 50)).unwrap();
    rows.scales.truncate(400);
    assert!(walked(&rows, &graph, &walk(&query, 300)).is_err());
    let other = CodeQueries::new(&[&[1.0; 15]]).unwrap();
    let error = walked(&rows, &graph, &walk(&other, 5)).unwrap_err();
    assert!(matches!(error, GraphError::Width { query: 15, column: 16 }), "{error}");
    let two = CodeQueries::new(&[rows.row(0), rows.row(1)]).unwrap();
    assert!(matches!(walked(&rows, &graph, &walk(&two, 5)), Err(GraphError::Kernel(_))));
}

#[test]
fn what_cannot_be_read_is_an_error_when_it_is_touched() {
    let mut rows = clustered(300, 16, (20, 0.7), 1);
    let graph = build(&rows);
    let query = CodeQueries::new(&[rows.row(3)]).unwrap();
    rows.damaged = Some(3);
    assert!(matches!(walked(&rows, &graph, &walk(&query, 20)), Err(GraphError::Read(Damaged(3)))));
    let rows = rows.with_coarse();
    let coarse = CoarseQuestion::new(Kernels::best(), rows.row(3), &rows).unwrap();
    let by_coarse = Walk { coarse: coarse.as_ref(), ..walk(&query, 20) };
    assert!(matches!(walked(&rows, &graph, &by_coarse), Err(GraphError::Read(Damaged(3)))));
    let mut cut = SampleRows { damaged: None, ..rows.clone() };
    cut.coarse[1].truncate(400);
    assert!(matches!(walked(&cut, &graph, &Walk { beam: 300, ..by_coarse }), Err(GraphError::Kernel(_))));
}

/// A graph in which every fifth row has links, but no other row links to it.
#[test]
fn repair_reaches_every_row_and_loses_none() {
    let rows = clustered(600, 16, (20, 0.7), 1);
    let space = CodedSpace::new(Kernels::best(), &rows, 1.0).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let (cancel, mut advance) = (Cancel::new(), |_| ());
    let work = GraphWork { pool: &pool, pause: &|| (), cancel: &cancel, advance: &mut advance };
    let all: Vec<u32> = (0..600).collect();
    // With four places a row, all of them taken, links have to make way.
    for most in [4, 8] {
        let mut draft = Draft::new(600, most, 16);
        let mut stream = RandomStream::new(4);
        for row in 0..600_u32 {
            draft.place(row, 0);
            // A ring of those that are linked to, and any other rows.
            let next = (row + 1 + u32::from(row % 5 == 3)) % 600;
            let other = |stream: &mut RandomStream| 5 * stream.below(120) as u32 + 1;
            let links: Vec<u32> = (1..most).map(|_| other(&mut stream)).collect();
            draft.set_links(0, row, &[&[next], &links[..]].concat());
        }
        draft.set_entry(0);
        let lost = 600 - reachable(&draft, 600);
        assert_eq!(lost, 120, "{most}");
        let repaired = repair(&space, &mut draft, &all, &work).unwrap();
        assert!(repaired > 0 && repaired <= lost);
        assert_eq!(reachable(&draft, 600), 600);
        assert_eq!(repair(&space, &mut draft, &all, &work).unwrap(), 0);
    }
}

#[test]
fn a_row_nearer_to_a_kept_one_is_no_link() {
    // Row 0 at the origin of an arc; 1 and 2 close to each other on one side, 3 on the other.
    let angle = |degrees: f32| [degrees.to_radians().cos(), degrees.to_radians().sin()];
    let values: Vec<f32> = [0.0, 20.0, 25.0, -40.0].into_iter().flat_map(angle).collect();
    let rows = SampleRows::of(2, values);
    let space = CodedSpace::new(Kernels::best(), &rows, 1.0).unwrap();
    let mut draft = Draft::new(4, 4, 2);
    let candidates: Vec<Scored> = [(1, 20.0_f32), (2, 25.0), (3, 40.0)]
        .map(|(row, degrees)| Scored::new(degrees.to_radians().cos(), row))
        .into();
    let mut selection = Selection::default();
    let mut kept = Vec::new();
    selection.select(&space, &draft, &candidates, 4, &mut kept).unwrap();
    assert_eq!(kept, [1, 3]);
    // A row that hangs from this one stays, and stands in nobody's way.
    draft.attach(1);
    kept.clear();
    selection.select(&space, &draft, &candidates, 4, &mut kept).unwrap();
    assert_eq!(kept, [1, 2, 3]);
    kept.clear();
    selection.select(&space, &draft, &candidates, 2, &mut kept).unwrap();
    assert_eq!(kept, [1, 2]);
}
