//! The scores that `eval lds` measures: which they are, their sums over subsets, and the rows that they rank first.

use std::collections::{HashMap, HashSet};

use super::failure::Failure;
use super::gradient_arguments::{AskedText, CANDIDATES_BY};
use super::measure_truth::embedded;
use crate::attribution::ScoreKind;
use crate::base::Cancel;
use crate::curvature::CurvatureKind;
use crate::engine::{
    GradientInput, GradientQuery, HybridCandidates, HybridQuestion, LabelledText, MemberScores, QueryInput,
    Snapshot,
};
use crate::evaluation::{NdcgReport, RankingAgreement, TruthFile, group_sums, highest_rows, keep_same_label};

/// Rows of each ranking that are compared with the exact one.
const RANKED_ROWS: usize = 20;

/// Scores of embeddings, by the names that users give them.
pub(super) const EMBEDDING_SCORES: [&str; 2] = ["learned", "same-label"];

/// Scores of gradients, by the name that users give them.
pub(super) const GRADIENT_SCORE: &str = "gradient";

/// Gradient scores of candidates that embeddings find, by the name that users give them.
pub(super) const HYBRID_SCORE: &str = "hybrid";

/// All scores that can be measured.
pub(super) const SCORES: [&str; 4] = [EMBEDDING_SCORES[0], EMBEDDING_SCORES[1], GRADIENT_SCORE, HYBRID_SCORE];

/// Gradient scores by one curvature and some members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GradientMethod {
    /// `None`: the curvature that was fitted last.
    pub(super) curvature: Option<CurvatureKind>,
    /// By their numbers; empty for all.
    pub(super) members: Vec<u32>,
}

impl GradientMethod {
    fn name(&self) -> String {
        let mut name = GRADIENT_SCORE.to_owned();
        if let Some(kind) = self.curvature {
            name += &format!(", {}", kind.name());
        }
        match self.members.as_slice() {
            [] => {}
            [only] => name += &format!(", member {only}"),
            several => {
                let numbers: Vec<String> = several.iter().map(u32::to_string).collect();
                name += &format!(", members {}", numbers.join(","));
            }
        }
        name
    }
}

/// Every curvature with all members, then with each of some choices of members; each method once.
pub(super) fn gradient_methods(curvatures: &[CurvatureKind], members: &[Vec<u32>]) -> Vec<GradientMethod> {
    let kinds: Vec<Option<CurvatureKind>> =
        if curvatures.is_empty() { vec![None] } else { curvatures.iter().copied().map(Some).collect() };
    let mut methods: Vec<GradientMethod> = Vec::new();
    let mut known = HashSet::new();
    for curvature in kinds {
        for members in std::iter::once(&Vec::new()).chain(members) {
            // The order that members are named in changes nothing.
            let mut sorted = members.clone();
            sorted.sort_unstable();
            if known.insert((curvature.map(CurvatureKind::name), sorted)) {
                methods.push(GradientMethod { curvature, members: members.clone() });
            }
        }
    }
    methods
}

/// What is kept of the scores of one method.
pub(super) struct Measured {
    pub(super) name: String,
    /// Sums of its scores, queries x subsets.
    pub(super) groups: Vec<f64>,
    /// For each query the rows that it ranks first, by their numbers among [`Measurement`]'s rows.
    first: Vec<Vec<usize>>,
    /// `None` of scores of embeddings.
    pub(super) gradient: Option<GradientMethod>,
}

/// Rankings beside those of a gradient score.
pub(super) struct Rankings {
    /// The method whose scores are taken as exact.
    pub(super) exact: String,
    pub(super) agreement: RankingAgreement,
}

impl Rankings {
    /// `None` where no query has a row with a positive exact score.
    pub(super) fn report(&self, level: f64, resamples: usize, seed: u64) -> Option<NdcgReport> {
        self.agreement.report(level, resamples, seed)
    }
}

/// Rows that scores are of, in the order of the scores.
struct ScoredRows {
    /// The subsets of the truth over these rows: [subsets x rows].
    masks: Vec<u8>,
    /// Number of each row among the rows of all scores.
    numbers: Vec<usize>,
}

/// What methods are measured against.
pub(super) struct Measurement<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) truth: &'a TruthFile,
    cancel: &'a Cancel,
    /// The sketch column; `None`: the only one.
    pub(super) column: Option<&'a str>,
    /// Numbers of the rows of all scores, by key: those with a gradient, then those that only have an embedding. Empty where
    /// rankings are compared with none.
    rows: HashMap<String, usize>,
    pub(super) measured: Vec<Measured>,
    pub(super) rankings: Option<Rankings>,
}

impl<'a> Measurement<'a> {
    pub(super) fn new(
        snapshot: &'a Snapshot,
        truth: &'a TruthFile,
        cancel: &'a Cancel,
        column: Option<&'a str>,
    ) -> Self {
        Self { snapshot, truth, cancel, column, rows: HashMap::new(), measured: Vec::new(), rankings: None }
    }

    /// Rankings will be compared with a gradient score: of rows with a gradient, and of others that have none.
    pub(super) fn rank_rows(&mut self, has_embeddings: bool) -> Result<(), Failure> {
        let mut keys = self.snapshot.gradient_keys(self.column)?;
        if has_embeddings {
            keys.extend(self.snapshot.column_keys(None)?);
        }
        for key in keys {
            let number = self.rows.len();
            self.rows.entry(key).or_insert(number);
        }
        Ok(())
    }

    fn scored_rows(&self, keys: &[String]) -> Result<ScoredRows, Failure> {
        let masks = self.truth.subsets_over(keys)?;
        let numbers = keys.iter().filter_map(|key| self.rows.get(key).copied()).collect();
        Ok(ScoredRows { masks, numbers })
    }

    /// Scores of all rows; what a method does not score counts 0.
    fn of_all_rows(&self, rows: &ScoredRows, scores: &[f64]) -> Vec<f64> {
        let mut all = vec![0.0; self.rows.len()];
        for (number, score) in rows.numbers.iter().zip(scores) {
            all[*number] = *score;
        }
        all
    }

    /// Takes in the scores of one method for one more query.
    fn take(&self, measured: &mut Measured, rows: &ScoredRows, scores: &[f64]) -> Result<(), Failure> {
        measured.groups.extend(group_sums(scores, &rows.masks, scores.len())?);
        measured.first.push(highest_rows(&self.of_all_rows(rows, scores), RANKED_ROWS)?);
        Ok(())
    }

    /// Measures the embedding scores of these names for texts with labels.
    pub(super) fn measure_embeddings(
        &mut self,
        asked: &[&AskedText],
        label: &str,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<(), Failure> {
        let texts: Vec<&LabelledText> = asked.iter().map(|asked| &asked.text).collect();
        let vectors = embedded(self.snapshot, None, &texts)?;
        let rows = self.scored_rows(&self.snapshot.column_keys(None)?)?;
        for score in EMBEDDING_SCORES.into_iter().filter(|score| is_wanted(score)) {
            let is_learned = score == "learned";
            let kind = if is_learned { ScoreKind::Dot } else { ScoreKind::Cosine };
            let mut scores = self.snapshot.score_vectors(None, &vectors, kind, self.cancel)?;
            if !is_learned {
                let labels = self.snapshot.labelled_rows(None, label)?;
                let of_rows: Vec<Option<&str>> =
                    labels.iter().map(|(_, _, label)| label.as_deref()).collect();
                keep_same_label(&mut scores, asked.iter().map(|asked| asked.label()), &of_rows);
            }
            let name = if is_learned { "learned" } else { "embedding cosine x same label" };
            let mut measured = Measured::new(name.to_owned(), None);
            scores.iter().try_for_each(|scores| self.take(&mut measured, &rows, scores))?;
            self.measured.push(measured);
        }
        Ok(())
    }

    /// Measures gradient scores of texts with labels, and hybrid scores of so many candidates, found in each of the ways `hybrid`.
    pub(super) fn measure_text_gradients(
        &mut self,
        asked: &[&AskedText],
        methods: &[GradientMethod],
        (hybrid, candidates): (&[&str], usize),
    ) -> Result<(), Failure> {
        let texts: Vec<LabelledText> = asked.iter().map(|asked| asked.text.clone()).collect();
        let gradients = self.snapshot.label_gradients(self.column, &texts)?;
        let nothing = QueryInput::Key(String::new());
        let inputs = GradientInput::of_head(&nothing, &gradients);
        let Some(method) = methods.first() else { return Ok(()) };
        for by in hybrid {
            if *by == CANDIDATES_BY[1] {
                self.measure_by_codes(&inputs, method, candidates)?;
                continue;
            }
            let questions = texts.iter().zip(&inputs).map(|(text, gradient)| {
                let input = match text {
                    LabelledText::Text { text, .. } => QueryInput::Text(text.clone()),
                    LabelledText::Vector { vector, .. } => QueryInput::Vector(vector.clone()),
                };
                let candidates = HybridCandidates::Embedding { input, column: None };
                HybridQuestion { candidates, gradient: *gradient }
            });
            let questions: Vec<HybridQuestion<'_>> = questions.collect();
            self.measure_hybrid(&questions, method, &format!("{candidates} candidates"), candidates)?;
        }
        self.measure_gradients(&inputs, methods)
    }

    /// Whether codes were kept with the curvature of the first method.
    pub(super) fn has_codes(&self, methods: &[GradientMethod]) -> Result<bool, Failure> {
        match methods.first() {
            Some(method) => Ok(self.snapshot.has_codes(&self.query(method))?),
            None => Ok(false),
        }
    }

    /// Measures hybrid scores of so many candidates, found by codes.
    pub(super) fn measure_by_codes(
        &mut self,
        inputs: &[GradientInput<'_>],
        method: &GradientMethod,
        candidates: usize,
    ) -> Result<(), Failure> {
        let question =
            |gradient: &_| HybridQuestion { candidates: HybridCandidates::Codes, gradient: *gradient };
        let questions: Vec<HybridQuestion<'_>> = inputs.iter().map(question).collect();
        let how = format!("{candidates} candidates by codes");
        self.measure_hybrid(&questions, method, &how, candidates)
    }

    fn measure_hybrid(
        &mut self,
        questions: &[HybridQuestion<'_>],
        method: &GradientMethod,
        how: &str,
        candidates: usize,
    ) -> Result<(), Failure> {
        let rows = self.scored_rows(&self.snapshot.gradient_keys(self.column)?)?;
        let name = method.name().replacen(GRADIENT_SCORE, HYBRID_SCORE, 1);
        let mut measured = Measured::new(format!("{name}, {how}"), Some(method.clone()));
        let query = self.query(method);
        self.snapshot.score_hybrid(questions, &query, candidates, self.cancel, |_, scores| {
            self.take(&mut measured, &rows, scores)
        })?;
        self.measured.push(measured);
        Ok(())
    }

    /// Measures gradient scores, and compares all rankings with that of the first method.
    ///
    /// The first method is asked last: the few rows that the others rank first are kept until then, and no exact scores.
    pub(super) fn measure_gradients(
        &mut self,
        inputs: &[GradientInput<'_>],
        methods: &[GradientMethod],
    ) -> Result<(), Failure> {
        let Some((exact, others)) = methods.split_first() else { return Ok(()) };
        let rows = self.scored_rows(&self.snapshot.gradient_keys(self.column)?)?;
        let place = self.measured.len();
        for method in others {
            let mut measured = Measured::new(method.name(), Some(method.clone()));
            self.ask(inputs, method, |_, scores| self.take(&mut measured, &rows, scores))?;
            self.measured.push(measured);
        }
        let mut agreement = RankingAgreement::new(self.measured.len() + 1, RANKED_ROWS);
        let mut measured = Measured::new(exact.name(), Some(exact.clone()));
        self.ask(inputs, exact, |number, scores| {
            self.take(&mut measured, &rows, scores)?;
            let mut rankings: Vec<&[usize]> =
                self.measured.iter().map(|other| other.first[number].as_slice()).collect();
            rankings.insert(place, &measured.first[number]);
            Ok(agreement.add(&rankings, &self.of_all_rows(&rows, scores))?)
        })?;
        self.rankings = Some(Rankings { exact: measured.name.clone(), agreement });
        self.measured.insert(place, measured);
        Ok(())
    }

    fn ask(
        &self,
        inputs: &[GradientInput<'_>],
        method: &GradientMethod,
        take: impl FnMut(usize, &[f64]) -> Result<(), Failure> + Send,
    ) -> Result<(), Failure> {
        self.snapshot.score_gradients(inputs, &self.query(method), self.cancel, take)
    }

    fn query(&self, method: &GradientMethod) -> GradientQuery {
        GradientQuery {
            column: self.column.map(str::to_owned),
            curvature: method.curvature,
            members: MemberScores::Standardised,
            only_members: method.members.clone(),
            ..GradientQuery::default()
        }
    }
}

impl Measured {
    fn new(name: String, gradient: Option<GradientMethod>) -> Self {
        Self { name, groups: Vec::new(), first: Vec::new(), gradient }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_curvature_comes_with_all_members_and_each_choice_once() {
        let names = |kinds: &[CurvatureKind], members: &[Vec<u32>]| -> Vec<String> {
            gradient_methods(kinds, members).iter().map(GradientMethod::name).collect()
        };
        assert_eq!(names(&[], &[]), ["gradient"]);
        let chosen = [vec![0, 1], vec![3], vec![1, 0], vec![3]];
        assert_eq!(names(&[], &chosen), ["gradient", "gradient, members 0,1", "gradient, member 3"]);
        assert_eq!(
            names(&[CurvatureKind::Margin, CurvatureKind::Identity, CurvatureKind::Margin], &[vec![2]]),
            [
                "gradient, margin",
                "gradient, margin, member 2",
                "gradient, identity",
                "gradient, identity, member 2"
            ]
        );
    }
}
