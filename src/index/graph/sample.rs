//! Rows in memory for the tests of this room.

use rayon::ThreadPoolBuilder;
use thiserror::Error;

use super::*;
use crate::base::limits::GRAPH_BEAMS;
use crate::base::{Cancel, RandomStream, RowId};
use crate::format::GraphRecall;
use crate::index::{CentreSum, CoarseRows, Coarsener, dither};
use crate::kernels::{CodeQueries, Kernels, code_row_bytes, encode_int8};

#[derive(Debug, PartialEq, Error)]
#[error("row {0} is damaged")]
pub(super) struct Damaged(pub(super) u32);

/// Rows with their values, and codes of them.
#[derive(Clone, Debug)]
pub(super) struct SampleRows {
    pub(super) width: usize,
    pub(super) values: Vec<f32>,
    pub(super) codes: Vec<u8>,
    pub(super) scales: Vec<u8>,
    pub(super) norms: Vec<u8>,
    /// What coarse codes are about and their dither, coarse codes, and their scales; empty where walks go by the others.
    pub(super) about: [Vec<u8>; 2],
    pub(super) coarse: [Vec<u8>; 2],
    /// This row cannot be read.
    pub(super) damaged: Option<u32>,
}

impl SampleRows {
    pub(super) fn of(width: usize, values: Vec<f32>) -> Self {
        let (mut codes, mut scales, mut norms) = (Vec::new(), Vec::new(), Vec::new());
        for (row, values) in values.chunks_exact(width).enumerate() {
            scales.extend(encode_int8(values, &mut codes).unwrap().to_le_bytes());
            codes.resize((row + 1) * code_row_bytes(width), 0);
            norms.extend(norm(values).to_le_bytes());
        }
        let (about, coarse) = (Default::default(), Default::default());
        Self { width, values, codes, scales, norms, about, coarse, damaged: None }
    }

    /// The same rows, with coarse codes.
    pub(super) fn with_coarse(mut self) -> Self {
        let bytes =
            |numbers: &[f32]| -> Vec<u8> { numbers.iter().flat_map(|value| value.to_le_bytes()).collect() };
        let scales: Vec<f32> =
            self.scales.as_chunks::<4>().0.iter().map(|scale| f32::from_le_bytes(*scale)).collect();
        let rows = || self.codes.chunks_exact(code_row_bytes(self.width)).zip(&scales);
        let mut sum = CentreSum::new(self.width);
        rows().for_each(|(codes, scale)| sum.add(codes, *scale));
        let (centre, dither) = (sum.centre(), dither(self.width, 5));
        let (mut coarsener, mut coarse) = (Coarsener::new(&centre, &dither), CoarseRows::default());
        rows().for_each(|(codes, scale)| coarsener.append(codes, *scale, &mut coarse));
        self.about = [bytes(&centre), bytes(&dither)];
        self.coarse = [coarse.codes, bytes(&coarse.scales)];
        self
    }

    fn readable(&self, rows: &[u32]) -> Result<(), Damaged> {
        self.damaged.filter(|damaged| rows.contains(damaged)).map_or(Ok(()), |row| Err(Damaged(row)))
    }

    pub(super) fn row(&self, row: u32) -> &[f32] {
        &self.values[row as usize * self.width..][..self.width]
    }

    /// Rows of the `count` highest scores by codes towards an end, highest first.
    pub(super) fn best(&self, query: &CodeQueries, opponents: bool, count: usize) -> Vec<(f32, u32)> {
        let mut sums = vec![0; self.row_count() as usize];
        Kernels::best().code_dots(query, &self.codes, &mut sums).unwrap();
        let sign = if opponents { -1.0 } else { 1.0 };
        let scale = |row: usize| f32::from_le_bytes(self.scales[4 * row..][..4].try_into().unwrap());
        let score = |(row, sum): (usize, &i32)| (sign * (*sum as f32 * scale(row)), row as u32);
        let mut scores: Vec<(f32, u32)> = sums.iter().enumerate().map(score).collect();
        scores.sort_by(|left, right| right.0.total_cmp(&left.0).then(left.1.cmp(&right.1)));
        scores.truncate(count);
        scores
    }
}

pub(super) fn norm(values: &[f32]) -> f32 {
    values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt() as f32
}

impl GraphRows for SampleRows {
    type Error = Damaged;

    fn row_count(&self) -> u32 {
        (self.values.len() / self.width) as u32
    }

    fn width(&self) -> usize {
        self.width
    }

    fn codes_at(&self, rows: &[u32]) -> Result<&[u8], Damaged> {
        self.readable(rows).map(|()| self.codes.as_slice())
    }

    fn scales_at(&self, _rows: &[u32]) -> Result<&[u8], Damaged> {
        Ok(&self.scales)
    }

    fn norms_at(&self, _rows: &[u32]) -> Result<&[u8], Damaged> {
        Ok(&self.norms)
    }

    fn centre_and_dither(&self) -> Result<Option<[&[u8]; 2]>, Damaged> {
        Ok((!self.coarse[0].is_empty()).then(|| self.about.each_ref().map(Vec::as_slice)))
    }

    fn coarse_at(&self, rows: &[u32]) -> Result<[&[u8]; 2], Damaged> {
        self.readable(rows).map(|()| self.coarse.each_ref().map(Vec::as_slice))
    }
}

/// About normal.
fn normal(stream: &mut RandomStream) -> f32 {
    (0..4).map(|_| stream.unit()).sum::<f64>() as f32 - 2.0
}

/// Rows near one of `clusters` centres, at `spread` of their distance, of length 1.
pub(super) fn clustered(
    count: usize,
    width: usize,
    (clusters, spread): (usize, f32),
    seed: u64,
) -> SampleRows {
    let mut centres = RandomStream::new(0);
    let centres: Vec<f32> = (0..clusters * width).map(|_| normal(&mut centres)).collect();
    let mut stream = RandomStream::new(seed + 1);
    let mut values = Vec::new();
    for _ in 0..count {
        let centre = stream.below(clusters as u64) as usize * width;
        let centre = &centres[centre..centre + width];
        let row: Vec<f32> = centre.iter().map(|value| value + spread * normal(&mut stream)).collect();
        let length = norm(&row).max(f32::MIN_POSITIVE);
        values.extend(row.iter().map(|value| value / length));
    }
    SampleRows::of(width, values)
}

/// Makes every row longer or shorter, by up to `decades` powers of ten.
pub(super) fn of_many_norms(mut rows: SampleRows, decades: f64) -> SampleRows {
    let mut stream = RandomStream::new(77);
    for row in rows.values.chunks_exact_mut(rows.width) {
        let size = 10_f64.powf(stream.unit() * decades) as f32;
        row.iter_mut().for_each(|value| *value *= size);
    }
    SampleRows::of(rows.width, rows.values)
}

pub(super) fn build_with(
    builder: &dyn GraphBuilder,
    rows: &SampleRows,
    options: &GraphOptions,
    threads: usize,
) -> Result<FrozenGraph, GraphError<Damaged>> {
    let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let (cancel, mut done) = (Cancel::new(), 0);
    let mut advance = |rows| done += rows;
    let mut work = GraphWork { pool: &pool, pause: &|| (), cancel: &cancel, advance: &mut advance };
    let graph = build_graph(builder, rows, options, &mut work)?;
    assert_eq!(done + u64::from(graph.head.scanned_rows), u64::from(rows.row_count()));
    Ok(graph)
}

/// A graph of small lists of candidates: quick to build.
pub(super) fn build(rows: &SampleRows) -> FrozenGraph {
    let options = GraphOptions { build_beam: 64, ..GraphOptions::default() };
    build_with(&NativeBuilder, rows, &options, 2).unwrap()
}

/// The beam that the graph promises its recall for, never less than what is asked for.
pub(super) fn promised(graph: &FrozenGraph, opponents: bool) -> GraphRecall {
    let measured = graph.head.recall[if opponents { 2 } else { 0 }];
    assert!(GRAPH_BEAMS.contains(&measured.beam), "{measured:?}");
    measured
}

/// One walk.
pub(super) fn walk_once<C: GraphColumn>(
    walker: &mut Walker,
    column: &C,
    walk: &Walk<'_>,
) -> Result<Found, GraphError<ReadError<C>>> {
    let mut found = walker.walk(column, std::slice::from_ref(walk))?;
    Ok(found.pop().unwrap())
}

/// The part of the 10 best rows that walks find, questions like the rows.
pub(super) fn recall(
    rows: &SampleRows,
    graph: &FrozenGraph,
    questions: &SampleRows,
    opponents: bool,
    beam: usize,
) -> f64 {
    let column = FrozenColumn { rows, graph };
    let mut walker = Walker::default();
    let (mut hits, mut wanted) = (0, 0);
    for question in 0..questions.row_count() {
        let (query, kernels) = (CodeQueries::new(&[questions.row(question)]).unwrap(), Kernels::best());
        let coarse = CoarseQuestion::new(kernels, questions.row(question), rows).unwrap();
        let coarse = coarse.as_ref().filter(|_| promised(graph, opponents).is_coarse);
        let walk = Walk { kernels, query: &query, coarse, opponents, beam, eligible: None };
        let found = walk_once(&mut walker, &column, &walk).unwrap().rows;
        assert!(found.is_sorted_by(|left, right| left.1 >= right.1));
        // Whoever asks scores what the beam holds again.
        let all = rows.best(&query, opponents, usize::MAX);
        let place = |row: &RowId| all.iter().position(|(_, other)| *other == row.0);
        let mut found: Vec<RowId> = found.into_iter().map(|(row, _)| row).collect();
        found.sort_by_key(place);
        let best = rows.best(&query, opponents, 10);
        let last = best.last().map_or(0.0, |(score, _)| *score);
        // Rows that score the same are as good as each other.
        let good: Vec<RowId> =
            all.iter().take_while(|(score, _)| *score >= last).map(|(_, row)| RowId(*row)).collect();
        hits += found.iter().take(10).filter(|row| good.contains(row)).count();
        wanted += best.len();
    }
    hits as f64 / wanted as f64
}
