//! From a gradient to the rows at both ends.

use std::time::Instant;

use super::answer::{Answer, Hit, QueryInput, QueryStages, Without};
use super::curvature::OpenCurvature;
use super::gradient_error::GradientError;
use super::gradient_lengths::lengths;
use super::gradient_question::{AskedGradients, Precision, Wanted};
use super::gradient_ranking::{Ranking, counted, rank};
use super::gradient_rows::GradientRows;
use super::gradient_scores::{QuestionScores, scores};
use super::query_error::QueryError;
use super::snapshot::Snapshot;
use crate::attribution::{Moments, RankedRows, ScoreKind, ScoredRow, Side};
use crate::base::{Cancel, RowSet};
use crate::curvature::{CurvatureKind, RowWeights};
use crate::encoder::GradientRow;
use crate::filter::Predicate;
use crate::sketch::{GradientSource, SketchRows};

/// Rows up to which all are scored in f64: to look for candidates first would take as long.
const EXACT_PLACES_MAX: usize = 256;

/// Scores that are held at a time while several gradients are asked about.
const SCORES_HELD: usize = 1 << 24;

/// A gradient that is asked about.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum GradientInput<'a> {
    /// The stored gradient of a row, by its key.
    Key(&'a str),
    /// Ready values of a gradient, in the order of the column's: those that a head gave for a text and a label.
    Values {
        /// What was asked about, for the answer.
        asked: &'a QueryInput,
        /// The values.
        values: &'a [f32],
    },
    /// Row `row` of other gradients, of the same schema but for their loss.
    Source {
        /// Where they come from.
        source: &'a dyn GradientSource,
        /// Which, from 0.
        row: usize,
    },
}

impl<'a> GradientInput<'a> {
    /// All gradients of a source.
    pub fn of_source(source: &'a dyn GradientSource) -> Vec<Self> {
        (0..source.rows()).map(|row| Self::Source { source, row }).collect()
    }

    /// What an answer says was asked.
    pub(super) fn asked(&self) -> QueryInput {
        match self {
            Self::Key(key) => QueryInput::Key((*key).to_owned()),
            Self::Values { asked, .. } => (*asked).clone(),
            Self::Source { source, row } => {
                QueryInput::Sketch { source: source.name().to_owned(), row: *row }
            }
        }
    }

    /// Gradients that a head gave for what was asked.
    pub fn of_head(asked: &'a QueryInput, gradients: &'a [GradientRow]) -> Vec<Self> {
        gradients.iter().map(|row| Self::Values { asked, values: &row.values }).collect()
    }
}

/// How scores of several members become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemberScores {
    /// Each member's scores are centred and divided by their standard deviation over all rows, then averaged: members that
    /// are sure of the query shrink its gradient, and would not be heard otherwise.
    #[default]
    Standardised,
    /// The plain mean.
    Raw,
}

/// A question: which rows moved the model this way?
#[derive(Clone, Debug, PartialEq)]
pub struct GradientQuery {
    /// Rows at each end, at least 1.
    pub k: usize,
    /// Which ends.
    pub side: Side,
    /// Only rows for which this expression over declared fields is true.
    pub filter: Option<String>,
    /// How scores are normalised.
    pub kind: ScoreKind,
    /// The sketch column; `None`: the only one.
    pub column: Option<String>,
    /// The curvature; `None`: the one that was fitted last.
    pub curvature: Option<CurvatureKind>,
    /// How members are put together.
    pub members: MemberScores,
    /// Members that are asked, by their numbers from 0; all if none is named.
    pub only_members: Vec<u32>,
    /// Whether to tell what each module contributes.
    pub layers: bool,
    /// Predict how the query's loss would change without the rows for which this expression is true; of the kind `dot` only.
    pub without: Option<String>,
}

impl Default for GradientQuery {
    fn default() -> Self {
        Self {
            k: 10,
            side: Side::Both,
            filter: None,
            kind: ScoreKind::Dot,
            column: None,
            curvature: None,
            members: MemberScores::Standardised,
            only_members: Vec::new(),
            layers: false,
            without: None,
        }
    }
}

impl Snapshot {
    /// The rows with the strongest influence on each of some gradients.
    ///
    /// # Errors
    /// See [`GradientError`].
    ///
    /// # Complexity
    /// Dual form: O(rows x values + rows^2) a gradient and member; other forms O(rows x parameters).
    pub fn query_gradients(
        &self,
        inputs: &[GradientInput<'_>],
        query: &GradientQuery,
        cancel: &Cancel,
    ) -> Result<Vec<Answer>, GradientError> {
        let _passage = self.inner.context.traffic.enter();
        let begun = Instant::now();
        if query.k == 0 {
            return Err(QueryError::NoRows.into());
        }
        if query.layers && query.kind != ScoreKind::Dot {
            return Err(GradientError::mismatch(
                "parts of layers add up for the kind dot only: leave --kind or --layers away",
            ));
        }
        if query.without.is_some() && query.kind != ScoreKind::Dot {
            return Err(GradientError::mismatch(
                "a change without rows is predicted for the kind dot only: leave --kind or --without away",
            ));
        }
        let rows = self.gradient_rows(query.column.as_deref())?;
        let (wanted, at_once) = (query.wanted_for_rows(rows.places), rows.questions_at_once());
        self.inner.context.pool.install(|| {
            let curvature = self.curvature(&rows, query.curvature)?;
            let eligible = self.chosen_rows(&rows, query.filter.as_deref())?;
            let without =
                query.without.as_deref().map(|text| self.chosen_rows(&rows, Some(text))).transpose()?;
            let mut answers = Vec::with_capacity(inputs.len());
            for inputs in inputs.chunks(at_once) {
                let asked = self.asked(&rows, inputs, &query.only_members)?;
                let all = scores(&rows, &curvature, &asked, wanted, cancel)?;
                for (number, (input, scores)) in inputs.iter().zip(all).enumerate() {
                    let asked = (&asked, number);
                    let curvature = &curvature;
                    let (rows, side, k) = (&rows, query.side, query.k);
                    let ranking = Ranking { snapshot: self, rows, curvature, side, k, asked, cancel };
                    let asker = Asker { ranking, query };
                    let mut answer = asker.answer(input, scores, &eligible, without.as_deref())?;
                    answer.elapsed = begun.elapsed();
                    answers.push(answer);
                }
            }
            Ok(answers)
        })
    }

    /// Hands the scores of all live rows for each of some gradients to `take`, in the order of ingest: one call a gradient.
    ///
    /// # Errors
    /// As [`query_gradients`](Self::query_gradients), and those of `take`.
    ///
    /// # Complexity
    /// As [`query_gradients`](Self::query_gradients); memory is bounded whatever the number of gradients.
    pub fn score_gradients<E: From<GradientError> + Send>(
        &self,
        inputs: &[GradientInput<'_>],
        query: &GradientQuery,
        cancel: &Cancel,
        take: impl FnMut(usize, &[f64]) -> Result<(), E> + Send,
    ) -> Result<(), E> {
        let _passage = self.inner.context.traffic.enter();
        let rows = self.gradient_rows(query.column.as_deref())?;
        let curvature = self.inner.context.pool.install(|| self.curvature(&rows, query.curvature))?;
        self.score_by(&rows, &curvature, inputs, query, cancel, take)
    }

    /// [`score_gradients`](Self::score_gradients) by a curvature that need not be the store's.
    pub(super) fn score_by<E: From<GradientError> + Send>(
        &self,
        rows: &GradientRows<'_>,
        curvature: &OpenCurvature,
        inputs: &[GradientInput<'_>],
        query: &GradientQuery,
        cancel: &Cancel,
        mut take: impl FnMut(usize, &[f64]) -> Result<(), E> + Send,
    ) -> Result<(), E> {
        let (wanted, at_once) = (query.wanted(), rows.questions_at_once());
        self.inner.context.pool.install(|| {
            let places = rows.live_places();
            let mut values = Vec::with_capacity(places.len());
            for (number, inputs) in inputs.chunks(at_once).enumerate() {
                let asked = self.asked(rows, inputs, &query.only_members)?;
                for (at, scores) in scores(rows, curvature, &asked, wanted, cancel)?.iter().enumerate() {
                    values.clear();
                    values.extend(places.iter().map(|place| scores.score(*place)));
                    take(number * at_once + at, &values)?;
                }
            }
            Ok(())
        })
    }

    /// Keys of the live rows that have a gradient, in the order of ingest: those of
    /// [`score_gradients`](Self::score_gradients).
    ///
    /// # Errors
    /// See [`GradientError`].
    pub fn gradient_keys(&self, column: Option<&str>) -> Result<Vec<String>, GradientError> {
        let rows = self.gradient_rows(column)?;
        let mut keys = Vec::new();
        for segment in &rows.segments {
            for row in segment.view.iter_live() {
                keys.push(segment.view.segment.rows.key(row)?.to_owned());
            }
        }
        Ok(keys)
    }

    /// How much each row influences itself, in the order of ingest: high for rows that are atypical or mislabelled. The mean
    /// over members.
    ///
    /// # Errors
    /// See [`GradientError`].
    ///
    /// # Complexity
    /// Dual form: O(rows) where all rows are in the fit, O(rows^2) for each that came later.
    pub fn self_influence(
        &self,
        column: Option<&str>,
        kind: Option<CurvatureKind>,
        cancel: &Cancel,
    ) -> Result<Vec<f64>, GradientError> {
        let rows = self.gradient_rows(column)?;
        self.inner.context.pool.install(|| {
            let curvature = self.curvature(&rows, kind)?;
            let lengths = lengths(&rows, &curvature, cancel)?;
            let members = lengths.len().max(1) as f64;
            let of_place = |place: &usize| {
                let own = lengths.iter().enumerate().map(|(member, lengths)| {
                    let RowWeights { score, .. } = curvature.weights(member, *place);
                    lengths[*place] * score * score
                });
                own.sum::<f64>() / members
            };
            Ok(rows.live_places().iter().map(of_place).collect())
        })
    }

    pub(super) fn asked(
        &self,
        rows: &GradientRows<'_>,
        inputs: &[GradientInput<'_>],
        only_members: &[u32],
    ) -> Result<AskedGradients, GradientError> {
        let mut asked = SketchRows::default();
        let mut outcomes = Vec::new();
        for input in inputs {
            match input {
                GradientInput::Key(key) => {
                    let (position, row) =
                        self.find(key)?.ok_or_else(|| QueryError::UnknownKey { key: (*key).to_owned() })?;
                    let no_value =
                        || QueryError::NoValue { key: (*key).to_owned(), column: rows.column.name.clone() };
                    let place = rows.place_of(position, row).ok_or_else(no_value)?;
                    let own = rows.row(place)?.ok_or_else(no_value)?;
                    asked.values.extend(own.values);
                    asked.terms.extend(own.terms);
                }
                GradientInput::Values { values, .. } => {
                    if values.len() != rows.schema.layout().width() || rows.schema.layout().terms_a_row() > 0
                    {
                        return Err(GradientError::mismatch(format!(
                            "the gradient has {} values, those of column {:?} have {}",
                            values.len(),
                            rows.column.name,
                            rows.schema.layout().width()
                        )));
                    }
                    asked.values.extend_from_slice(values);
                }
                GradientInput::Source { source, row } => {
                    rows.schema.check_query(source.schema()).map_err(|reason| {
                        GradientError::mismatch(format!(
                            "{} has other gradients than column {:?} and they cannot be compared: {reason}",
                            source.name(),
                            rows.column.name
                        ))
                    })?;
                    let (start, mut own) = (asked.values.len(), SketchRows::default());
                    source
                        .read_row(*row, &mut own.values, &mut own.terms, &mut outcomes)
                        .map_err(|error| GradientError::mismatch(error.to_string()))?;
                    rows.schema.layout().append_padded(
                        source.schema().layout(),
                        (&own.values, &own.terms),
                        (&mut asked.values, &mut asked.terms),
                    );
                    if let Some(index) = asked.values[start..].iter().position(|value| !value.is_finite()) {
                        let place = source.place(*row);
                        return Err(GradientError::mismatch(format!("{place}: value {index} is not finite")));
                    }
                }
            }
        }
        AskedGradients::new(rows, &asked, inputs.len(), only_members)
    }

    /// Live rows of each segment for which an expression is true; all live ones without.
    pub(super) fn chosen_rows(
        &self,
        rows: &GradientRows<'_>,
        filter: Option<&str>,
    ) -> Result<Vec<RowSet>, GradientError> {
        let predicate =
            filter.map(|text| Predicate::parse(text, self.fields())).transpose().map_err(QueryError::from)?;
        let mut chosen = Vec::new();
        for segment in &rows.segments {
            let view = segment.view;
            let own = match (&predicate, &view.live) {
                (Some(predicate), _) => view.rows_where::<QueryError>(predicate, self.fields())?,
                (None, Some(live)) => live.as_ref().clone(),
                (None, None) => RowSet::full(view.segment.record.row_count),
            };
            chosen.push(own);
        }
        Ok(chosen)
    }
}

impl GradientQuery {
    pub(super) fn wanted(&self) -> Wanted {
        Wanted {
            kind: self.kind,
            is_standardised: self.members == MemberScores::Standardised,
            has_parts: self.layers,
            precision: Precision::Exact,
        }
    }

    /// What is wanted of all rows where a few will be told: where nothing else is made of the scores, near ones say which.
    fn wanted_for_rows(&self, places: usize) -> Wanted {
        let is_exact = self.layers || self.without.is_some() || places <= EXACT_PLACES_MAX;
        Wanted { precision: if is_exact { Precision::Exact } else { Precision::Nearly }, ..self.wanted() }
    }
}

impl GradientRows<'_> {
    /// Gradients that are asked about at once: as many as their scores of all rows and members are held for.
    fn questions_at_once(&self) -> usize {
        (SCORES_HELD / (self.places * self.schema.members() as usize).max(1)).clamp(1, 64)
    }
}

/// One question and all that its answer is made from.
struct Asker<'a> {
    ranking: Ranking<'a>,
    query: &'a GradientQuery,
}

impl Asker<'_> {
    fn answer(
        &self,
        input: &GradientInput<'_>,
        mut scores: QuestionScores,
        eligible: &[RowSet],
        without: Option<&[RowSet]>,
    ) -> Result<Answer, GradientError> {
        let Self { ranking, query } = self;
        let Ranking { rows, curvature, .. } = ranking;
        let (ranked, all, moments) = rank(ranking, &mut scores, eligible)?;
        let shown: Vec<f64> =
            ranked.proponents.iter().chain(&ranked.opponents).map(|row| row.score).collect();
        let counter = counted(ranking, &all, &shown);
        let (proponents, opponents) = self.hits(&scores, &ranked, &moments, &counter.percentiles())?;
        let without = without.map(|chosen| self.without(&scores, chosen));
        let live = rows.live_rows();
        Ok(Answer {
            input: input.asked(),
            score: "gradient",
            column: rows.column.name.clone(),
            encoder: String::new(),
            curvature: Some(curvature.title_now(rows)?),
            kind: query.kind,
            plan: "scan",
            plan_reason: String::new(),
            rows: live,
            eligible_rows: eligible.iter().map(RowSet::len).sum(),
            segments: rows.segments.len(),
            bytes: 0,
            rows_by_codes: 0,
            hops: 0,
            rows_exact: live,
            elapsed: std::time::Duration::ZERO,
            stages: QueryStages::default(),
            without,
            proponents,
            opponents,
        })
    }

    fn without(&self, scores: &QuestionScores, chosen: &[RowSet]) -> Without {
        let (mut count, mut sum) = (0, 0.0);
        for (segment, chosen) in self.ranking.rows.segments.iter().zip(chosen) {
            for row in chosen.iter() {
                count += 1;
                sum += scores.raw_score(segment.first + row.0 as usize);
            }
        }
        Without { rows: count, change: sum / self.ranking.rows.live_rows().max(1) as f64 }
    }

    fn hits(
        &self,
        scores: &QuestionScores,
        ranked: &RankedRows,
        moments: &Moments,
        percentiles: &[Option<f64>],
    ) -> Result<(Vec<Hit>, Vec<Hit>), GradientError> {
        let Self { ranking: Ranking { snapshot, rows, curvature, cancel, .. }, query } = self;
        let is_standardised = query.members == MemberScores::Standardised;
        let means = if query.layers {
            Some(scores.part_means(rows, curvature, is_standardised, cancel)?)
        } else {
            None
        };
        let layers = |row: &ScoredRow| -> Result<Vec<(String, f64)>, GradientError> {
            let (Some(means), Some(place)) = (&means, rows.place_of(row.segment, row.row)) else {
                return Ok(Vec::new());
            };
            let names = rows.schema.modules().iter().map(|module| module.name.clone());
            Ok(names.zip(scores.parts(rows, curvature, place, means)?).collect())
        };
        let (mut proponents, mut opponents) = snapshot.fetch(ranked, moments, percentiles)?;
        for (hit, row) in proponents.iter_mut().zip(&ranked.proponents) {
            hit.layers = layers(row)?;
        }
        for (hit, row) in opponents.iter_mut().zip(&ranked.opponents) {
            hit.layers = layers(row)?;
        }
        Ok((proponents, opponents))
    }
}
