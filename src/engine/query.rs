//! From a question to the rows at both ends.
//!
//! Mean and deviation, and so z and percentile, are those of all live rows; a filter only decides which of them may be chosen.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::answer::{Answer, Hit, Query, QueryInput, QueryStages};
use super::encoders::EncoderError;
use super::plan::{Plan, Wish, beams, is_prefiltered};
use super::query_error::QueryError;
use super::scan::Scan;
use super::score::read_vector;
use super::snapshot::Snapshot;
use super::target::{Access, GraphWalk, Question, Target, limits};
use crate::attribution::{Moments, RankedRows, ScoreKind, ScoredRow, Selection};
use crate::base::{Cancel, RowId, RowSet};
use crate::encoder::Encoder;
use crate::filter::Predicate;
use crate::format::{ColumnKind, ColumnRecord};
use crate::kernels::{CODE_QUERIES_MAX, CodeQueries};
use crate::storage::RowFile;

/// Queries that differ in nothing but what they ask about, and what has to be there before they are answered.
struct Prepared<'a> {
    queries: &'a [Query],
    column: &'a ColumnRecord,
    encoder: Option<Arc<dyn Encoder>>,
    /// Time that this took.
    took: Duration,
}

impl Snapshot {
    /// The rows with the strongest positive and negative scores.
    ///
    /// # Errors
    /// See [`QueryError`].
    ///
    /// # Complexity
    /// One pass over the column's codes (or values) of all rows, in parallel.
    pub fn query(&self, query: &Query, cancel: &Cancel) -> Result<Answer, QueryError> {
        let mut answers = self.query_all(std::slice::from_ref(query), cancel)?;
        // One answer a query.
        answers.pop().ok_or(QueryError::NoRows)
    }

    /// Answers several queries, in their order. Neighbours that differ in nothing but what they ask about share passes over
    /// the rows.
    ///
    /// # Errors
    /// Those of the first query that cannot be answered.
    ///
    /// # Complexity
    /// One pass for each four queries; where graphs are walked, one walk a query and end, as many side by side as the store
    /// has threads.
    pub fn query_all(&self, queries: &[Query], cancel: &Cancel) -> Result<Vec<Answer>, QueryError> {
        let _passage = self.inner.context.traffic.enter();
        let alike = queries.chunk_by(Query::differs_only_in_input);
        let alike = alike.map(|alike| self.prepare(alike)).collect::<Result<Vec<_>, _>>()?;
        // All else in the pool, from end to end: to wake a thread takes as long as to scan thousands of rows.
        self.inner.context.pool.install(|| {
            let mut answers = Vec::with_capacity(queries.len());
            for alike in alike {
                answers.extend(self.answer_alike(&alike, cancel)?);
            }
            Ok(answers)
        })
    }

    /// The rows with the strongest scores, and the column that they are of.
    pub(super) fn strongest(
        &self,
        query: &Query,
        cancel: &Cancel,
    ) -> Result<(RankedRows, String), QueryError> {
        let selection = Selection::new(query.side, query.k)?;
        let prepared = self.prepare(std::slice::from_ref(query))?;
        let column = prepared.column;
        self.inner.context.pool.install(|| {
            let (targets, _) = self.targets(column, query)?;
            let vector = self.query_vector(column, &query.input, prepared.encoder.as_deref())?;
            let question = question(self, query, &vector)?;
            let scans = Scan::run(self, &targets, std::slice::from_ref(&question), true, cancel)?;
            let scan = scans.and_then(|mut scans| scans.pop());
            // Rows may be scanned, so that there is one.
            let ranked = scan.map(|mut scan| scan.choose(&question, selection, cancel)).transpose()?;
            Ok((ranked.unwrap_or_default(), column.name.clone()))
        })
    }

    fn prepare<'a>(&'a self, queries: &'a [Query]) -> Result<Prepared<'a>, QueryError> {
        let begun = Instant::now();
        if queries.iter().any(|query| query.k == 0) {
            return Err(QueryError::NoRows);
        }
        let column = self.embedding_column(queries.first().and_then(|first| first.column.as_deref()))?;
        // Loaded here and not in the pool: a thread of the pool that waits for its tasks may begin another query, which
        // would wait for the lock that this one holds.
        let text =
            queries.iter().map(|query| &query.input).find(|input| matches!(input, QueryInput::Text(_)));
        let encoder = text.map_or(Ok(None), |text| self.text_encoder(column, text))?;
        Ok(Prepared { queries, column, encoder, took: begun.elapsed() })
    }

    /// The encoder of a question that is a text.
    fn text_encoder(
        &self,
        column: &ColumnRecord,
        input: &QueryInput,
    ) -> Result<Option<Arc<dyn Encoder>>, QueryError> {
        if !matches!(input, QueryInput::Text(_)) {
            return Ok(None);
        }
        if matches!(&column.kind, ColumnKind::Embedding(record) if record.fingerprint.is_none()) {
            return Err(QueryError::Empty);
        }
        Ok(Some(self.encoder(column)?))
    }

    /// Answers queries that differ in nothing but their input: four share a pass over the rows.
    fn answer_alike(&self, alike: &Prepared<'_>, cancel: &Cancel) -> Result<Vec<Answer>, QueryError> {
        let Some(first) = alike.queries.first() else { return Ok(Vec::new()) };
        let mut stages = QueryStages { encode: alike.took, ..QueryStages::default() };
        let mut answers = Vec::with_capacity(alike.queries.len());
        let mut planned = stage(&mut stages.filter, || self.targets(alike.column, first))?;
        // A scan keeps all threads busy by itself, and a score of every row in memory. Walks go on side by side.
        if planned.0.iter().all(|target| !target.is_scanned()) {
            let threads = rayon::current_num_threads();
            let share = alike.queries.len().div_ceil(threads).clamp(1, CODE_QUERIES_MAX);
            let parts = alike.queries.par_chunks(share);
            let parts: Vec<_> =
                parts.map(|queries| self.answer(alike, queries, &planned, stages, false, cancel)).collect();
            for part in parts {
                let Some(part) = part? else { break };
                answers.extend(part);
            }
            if answers.len() < alike.queries.len() {
                // A damaged graph is left alone from now on.
                planned = stage(&mut stages.filter, || self.targets(alike.column, first))?;
            }
        }
        for queries in alike.queries[answers.len()..].chunks(CODE_QUERIES_MAX) {
            let part = self.answer(alike, queries, &planned, stages, true, cancel)?;
            answers.extend(part.unwrap_or_default());
        }
        Ok(answers)
    }

    /// Answers queries that share a pass; `stages` is the time that was spent on all of them before. `None` if rows have to
    /// be scanned that were planned to be walked over, and they must not be.
    fn answer(
        &self,
        alike: &Prepared<'_>,
        queries: &[Query],
        (targets, plan_reason): &(Vec<Target<'_>>, String),
        mut stages: QueryStages,
        may_scan: bool,
        cancel: &Cancel,
    ) -> Result<Option<Vec<Answer>>, QueryError> {
        let begun = Instant::now();
        let spent = stages.encode + stages.filter;
        let Prepared { column, encoder, .. } = alike;
        let selections =
            queries.iter().map(|query| Selection::new(query.side, query.k)).collect::<Result<Vec<_>, _>>()?;
        let vectors = stage(&mut stages.encode, || {
            queries.iter().map(|query| self.query_vector(column, &query.input, encoder.as_deref())).collect()
        })?;
        let vectors: Vec<Vec<f32>> = vectors;
        let questions = queries.iter().zip(&vectors).map(|(query, vector)| question(self, query, vector));
        let questions = questions.collect::<Result<Vec<_>, _>>()?;
        let scans = stage(&mut stages.scan, || Scan::run(self, targets, &questions, may_scan, cancel))?;
        let Some(scans) = scans else { return Ok(None) };
        let eligible_rows = targets
            .iter()
            .map(|target| target.eligible.as_ref().map_or_else(|| target.view.live_rows(), RowSet::len))
            .sum();
        let mut answers = Vec::with_capacity(queries.len());
        let asked = queries.iter().zip(&questions).zip(selections);
        for (((query, question), selection), mut scan) in asked.zip(scans) {
            let mut stages = stages;
            let (ranked, moments, percentiles) = stage(&mut stages.select, || {
                let ranked = scan.choose(question, selection, cancel)?;
                self.ask_for(&ranked, RowFile::offset_places);
                let (moments, percentiles) = scan.unusual(question, &ranked)?;
                Ok((ranked, moments, percentiles))
            })?;
            let (proponents, opponents) = stage(&mut stages.fetch, || {
                self.ask_for(&ranked, RowFile::string_places);
                self.fetch(&ranked, &moments, &percentiles)
            })?;
            answers.push(Answer {
                input: query.input.clone(),
                score: "learned",
                column: column.name.clone(),
                encoder: encoder_name(column),
                curvature: None,
                kind: query.kind,
                plan: scan.plan(),
                plan_reason: plan_reason.clone(),
                rows: targets.iter().map(|target| target.view.live_rows()).sum(),
                eligible_rows,
                segments: targets.len(),
                bytes: scan.bytes(),
                rows_by_codes: scan.rows_by_codes(),
                hops: scan.hops(),
                rows_exact: scan.rows_exact(),
                elapsed: spent + begun.elapsed(),
                stages,
                without: None,
                proponents,
                opponents,
            });
        }
        Ok(Some(answers))
    }

    fn embedding_column(&self, name: Option<&str>) -> Result<&ColumnRecord, QueryError> {
        let found = self.column(name).filter(|column| matches!(column.kind, ColumnKind::Embedding(_)));
        found.ok_or_else(|| QueryError::UnknownColumn {
            name: name.unwrap_or_default().to_owned(),
            known: self.column_names().collect::<Vec<_>>().join(", "),
        })
    }

    fn query_vector(
        &self,
        column: &ColumnRecord,
        input: &QueryInput,
        encoder: Option<&dyn Encoder>,
    ) -> Result<Vec<f32>, QueryError> {
        let width = column.width as usize;
        match input {
            QueryInput::Text(text) => {
                let encoder = encoder.ok_or(QueryError::Empty)?;
                let mut vector = vec![0.0; width];
                encoder.encode(&[text.as_str()], &mut vector).map_err(EncoderError::from)?;
                Ok(vector)
            }
            QueryInput::Key(key) => self.stored_vector(column, key),
            QueryInput::Vector(vector) => {
                let reason = if vector.len() != width {
                    format!("the vector has {} values, column {:?} has {width}", vector.len(), column.name)
                } else if let Some(index) = vector.iter().position(|value| !value.is_finite()) {
                    format!("value {index} of the vector is {}: give finite numbers", vector[index])
                } else {
                    return Ok(vector.clone());
                };
                Err(QueryError::Vector { reason })
            }
            QueryInput::Sketch { source, .. } => {
                let reason = format!("{source} holds gradients: ask with --score gradient");
                Err(QueryError::Vector { reason })
            }
        }
    }

    fn stored_vector(&self, column: &ColumnRecord, key: &str) -> Result<Vec<f32>, QueryError> {
        let (position, row) =
            self.find(key)?.ok_or_else(|| QueryError::UnknownKey { key: key.to_owned() })?;
        let file = self.inner.segments[position]
            .segment
            .column(column.id)
            .ok_or_else(|| QueryError::NoValue { key: key.to_owned(), column: column.name.clone() })?;
        read_vector(file, row)
    }

    /// The segments that have the column, with the rows that pass the filter, and why a graph is not walked.
    fn targets(&self, column: &ColumnRecord, query: &Query) -> Result<(Vec<Target<'_>>, String), QueryError> {
        let predicate =
            query.filter.as_ref().map(|text| Predicate::parse(text, self.fields())).transpose()?;
        let context = &self.inner.context;
        let storage = context.storage.as_ref();
        let (mut targets, mut reason) = (Vec::new(), String::new());
        for (position, view) in self.inner.segments.iter().enumerate() {
            let Some(file) = view.segment.column(column.id) else { continue };
            let eligible =
                predicate.as_ref().map(|predicate| view.rows_where::<QueryError>(predicate, self.fields()));
            let eligible = eligible.transpose()?;
            let rows = view.segment.record.row_count;
            let index = (!query.exact && rows >= context.index_rows_min)
                .then(|| view.segment.index(storage, column.id))
                .flatten();
            let mut target = Target { position, view, column: file, index, access: Access::Scan, eligible };
            let why;
            (target.access, why) = self.plan_access(column, query, &target);
            if !why.is_empty() {
                reason = why;
            }
            targets.push(target);
        }
        Ok((targets, reason))
    }

    /// How the rows of a target are found; why not by its graph, where there is one.
    fn plan_access(&self, column: &ColumnRecord, query: &Query, target: &Target<'_>) -> (Access, String) {
        let wish = Wish {
            plan: query.plan,
            limits: limits(query.side, query.k),
            kind: query.kind,
            rows: u64::from(target.rows()),
            eligible: target.chosen_from().map_or(u64::from(target.rows()), RowSet::len),
        };
        let (walk, why) = match self.plan_walk(column, query, target, &wish) {
            Ok(walk) => (walk, String::new()),
            Err(why) => (None, why),
        };
        let may_be_filtered = target.eligible.is_some() && target.index.is_some() && !query.background;
        if may_be_filtered && is_prefiltered(&wish, walk.as_ref().map(|walk| walk.beams)) {
            return (Access::Prefilter, why);
        }
        (walk.map_or(Access::Scan, Access::Graph), why)
    }

    /// The graph of a target, if there is one and it is to be walked; otherwise why not.
    fn plan_walk(
        &self,
        column: &ColumnRecord,
        query: &Query,
        target: &Target<'_>,
        wish: &Wish,
    ) -> Result<Option<GraphWalk>, String> {
        let context = &self.inner.context;
        if target.rows() < context.graph_rows_min && !matches!(query.plan, Plan::Graph { .. }) {
            return Ok(None);
        }
        let reason = match query.plan {
            _ if query.exact => "every row is scored exactly, as was asked",
            _ if query.background => "percentiles were asked for",
            Plan::Scan => "a scan was asked for",
            _ if target.index.is_none() => "the codes that its graph is walked with are not there",
            _ => "",
        };
        let segment = &target.view.segment;
        let Some(graph) = segment.graph(context.storage.as_ref(), column.id) else { return Ok(None) };
        if !reason.is_empty() {
            return Err(reason.to_owned());
        }
        let beams =
            beams(wish, graph.head()).map_err(|reason| format!("segment {}: {reason}", segment.record.id))?;
        Ok(Some(GraphWalk { graph, beams }))
    }

    /// Asks memory for what will be read of the chosen rows.
    fn ask_for(&self, ranked: &RankedRows, of_row: impl Fn(&RowFile, RowId) -> [&[u8]; 3]) {
        for row in ranked.proponents.iter().chain(&ranked.opponents) {
            let places = of_row(&self.inner.segments[row.segment].segment.rows, row.row);
            places.into_iter().for_each(|place| self.inner.context.kernels.prefetch(place));
        }
    }

    pub(super) fn fetch(
        &self,
        ranked: &RankedRows,
        moments: &Moments,
        percentiles: &[Option<f64>],
    ) -> Result<(Vec<Hit>, Vec<Hit>), QueryError> {
        let hit = |(rank, (row, percentile)): (usize, (&ScoredRow, &Option<f64>))| {
            let content = self.row_at(row.segment, row.row)?;
            Ok::<_, QueryError>(Hit {
                rank: rank + 1,
                key: content.key,
                score: row.score,
                z: moments.z(row.score),
                percentile: *percentile,
                text: content.text,
                metadata: content.metadata,
                layers: Vec::new(),
            })
        };
        let (of_proponents, of_opponents) = percentiles.split_at(ranked.proponents.len());
        let hits = |rows: &[ScoredRow], percentiles: &[Option<f64>]| {
            let mut hits = Vec::with_capacity(rows.len());
            for row in rows.iter().zip(percentiles).enumerate() {
                hits.push(hit(row)?);
            }
            Ok::<_, QueryError>(hits)
        };
        Ok((hits(&ranked.proponents, of_proponents)?, hits(&ranked.opponents, of_opponents)?))
    }
}

fn stage<T>(time: &mut Duration, work: impl FnOnce() -> Result<T, QueryError>) -> Result<T, QueryError> {
    let begun = Instant::now();
    let result = work();
    *time += begun.elapsed();
    result
}

fn question<'a>(snapshot: &Snapshot, query: &Query, vector: &'a [f32]) -> Result<Question<'a>, QueryError> {
    let codes =
        CodeQueries::new(&[vector]).map_err(|error| QueryError::Vector { reason: error.to_string() })?;
    // Only a cosine is divided by it.
    let norm = if query.kind == ScoreKind::Cosine { norm(snapshot, vector)? } else { 1.0 };
    Ok(Question { vector, codes, kind: query.kind.row_score(norm), side: query.side, k: query.k })
}

fn norm(snapshot: &Snapshot, vector: &[f32]) -> Result<f64, QueryError> {
    let kernels = snapshot.inner.context.kernels;
    let squared =
        kernels.dot(vector, vector).map_err(|error| QueryError::Vector { reason: error.to_string() })?;
    Ok(squared.sqrt())
}

fn encoder_name(column: &ColumnRecord) -> String {
    match &column.kind {
        ColumnKind::Embedding(record) => record.specification.clone(),
        ColumnKind::Sketch { .. } => String::new(),
    }
}
