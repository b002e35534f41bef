//! What the modules of a model are and how their gradients were taken.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::layout::SketchLayout;
use crate::base::Fingerprint;
use crate::base::limits::SKETCH_SCHEMA_BYTES_MAX;
use crate::format::{MODULE_NAME_BYTES_MAX, ModuleEncoding, SketchModule};

/// A text that is no schema, or one that no column can have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SketchSchemaError {
    /// Not the JSON that a schema is.
    #[error("the schema is not as it has to be: {reason}")]
    Json {
        /// What the parser said.
        reason: String,
    },
    /// A module that cannot be.
    #[error("module {name:?} of the schema {reason}")]
    Module {
        /// Its name.
        name: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The schema as a whole.
    #[error("the schema {reason}")]
    Whole {
        /// What is wrong and what to do.
        reason: String,
    },
}

/// When a member's gradients were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// Number of the training run, from 0.
    pub run: u32,
    /// Epochs of that run that were over, 0 before training.
    pub epoch: u32,
}

/// A random projection of a module's two sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Projection {
    /// Which generator; `rademacher` is the only one.
    pub kind: String,
    /// Seed of the generator.
    pub seed: u64,
    /// Width that the output side is projected to; not projected if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out: Option<u32>,
    /// Width that the input side is projected to; not projected if absent.
    #[serde(default, rename = "in", skip_serializing_if = "Option::is_none")]
    pub input: Option<u32>,
}

/// One module of a schema: a linear map, or an embedding table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SchemaModule {
    /// Name in the model.
    pub name: String,
    /// Output width of the module.
    pub out: u32,
    /// Input width of the module, the bias input counted.
    #[serde(rename = "in")]
    pub input: u32,
    /// Whether the last input is the constant 1 of a bias.
    #[serde(default)]
    pub bias: bool,
    /// `factored`, `sparse` or `dense`.
    pub encoding: String,
    /// Pairs of vectors of a factored or sparse module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// Places of the input that a row of a sparse module names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<u32>,
    /// Random projection, if the gradients were projected.
    #[serde(default)]
    pub projection: Option<Projection>,
    /// Whether the inputs are the same for all members, and so are kept once.
    #[serde(default)]
    pub shared_input: bool,
}

/// What a sketch column holds: ordered modules, each with shape, encoding and projection, for each of several members.
///
/// ```
/// use ascribe::sketch::SketchSchema;
/// let text = r#"{"members": 1, "checkpoints": [{"run": 0, "epoch": 3}], "loss": "cross-entropy, summed", "labels": "true",
///   "modules": [{"name": "net.0", "out": 4, "in": 9, "bias": true, "encoding": "factored", "rank": 1, "projection": null}]}"#;
/// let schema = SketchSchema::parse(text).unwrap();
/// assert_eq!(schema.layout().width(), 13);
/// assert_eq!(SketchSchema::parse(&schema.to_json()), Ok(schema));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SketchSchema {
    written: Written,
    layout: SketchLayout,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    members: u32,
    checkpoints: Vec<Checkpoint>,
    loss: String,
    labels: String,
    modules: Vec<SchemaModule>,
    /// By what gradients were divided, such as the fourth root of Adam's second moment; not if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scaling: Option<String>,
    /// The tool that gradients were imported from, with its projection and scale; absent where a collector took them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
}

impl SketchSchema {
    /// Reads a schema.
    ///
    /// # Errors
    /// The text is not the JSON of a schema, or a column cannot be laid out so.
    pub fn parse(text: &str) -> Result<Self, SketchSchemaError> {
        if text.len() > SKETCH_SCHEMA_BYTES_MAX {
            let reason = format!("has {} bytes, {SKETCH_SCHEMA_BYTES_MAX} are allowed", text.len());
            return Err(SketchSchemaError::Whole { reason });
        }
        let written: Written = serde_json::from_str(text)
            .map_err(|error| SketchSchemaError::Json { reason: error.to_string() })?;
        Self::new(written)
    }

    /// A schema of these parts.
    ///
    /// # Errors
    /// A column cannot be laid out so.
    pub fn of_modules(
        checkpoints: Vec<Checkpoint>,
        loss: &str,
        labels: &str,
        modules: Vec<SchemaModule>,
    ) -> Result<Self, SketchSchemaError> {
        let members = u32::try_from(checkpoints.len()).unwrap_or(u32::MAX);
        let (loss, labels) = (loss.to_owned(), labels.to_owned());
        Self::new(Written { members, checkpoints, loss, labels, modules, scaling: None, origin: None })
    }

    /// The same for gradients of another tool: `origin` says which, and how it projected and scaled them; `scaling` by what
    /// they were divided. Gradients of two origins are never compared.
    ///
    /// ```
    /// use ascribe::sketch::SketchSchema;
    /// let text = r#"{"members": 1, "checkpoints": [{"run": 0, "epoch": 0}], "loss": "l", "labels": "true",
    ///   "modules": [{"name": "net.0", "out": 1, "in": 9, "encoding": "dense"}]}"#;
    /// let schema = SketchSchema::parse(text).unwrap();
    /// let other = schema.clone().with_origin("a tool", None);
    /// assert_eq!(other.origin(), Some("a tool"));
    /// assert_ne!(other.fingerprint(), schema.fingerprint());
    /// ```
    #[must_use]
    pub fn with_origin(mut self, origin: &str, scaling: Option<&str>) -> Self {
        self.written.origin = Some(origin.to_owned());
        self.written.scaling = scaling.map(str::to_owned);
        self
    }

    fn new(written: Written) -> Result<Self, SketchSchemaError> {
        if written.checkpoints.len() != written.members as usize {
            let reason = format!(
                "has {} checkpoints for {} members: give one for each",
                written.checkpoints.len(),
                written.members
            );
            return Err(SketchSchemaError::Whole { reason });
        }
        let mut modules = Vec::with_capacity(written.modules.len());
        for (position, module) in written.modules.iter().enumerate() {
            if written.modules[..position].iter().any(|other| other.name == module.name) {
                return Err(module.refuse("stands twice"));
            }
            modules.push(module.to_entry()?);
        }
        let layout = SketchLayout::new(modules, written.members)
            .map_err(|error| SketchSchemaError::Whole { reason: format!("cannot be stored: {error}") })?;
        Ok(Self { written, layout })
    }

    /// The schema as one line of JSON, always the same for the same schema.
    pub fn to_json(&self) -> String {
        // Texts, numbers and lists of them cannot fail.
        serde_json::to_string(&self.written).unwrap_or_default()
    }

    /// SHA-256 of that JSON: rows of two schemas never have the same.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.to_json().as_bytes())
    }

    /// Where everything stands in a row.
    pub fn layout(&self) -> &SketchLayout {
        &self.layout
    }

    /// Members: checkpoints or independently trained models.
    pub fn members(&self) -> u32 {
        self.written.members
    }

    /// When each member's gradients were taken.
    pub fn checkpoints(&self) -> &[Checkpoint] {
        &self.written.checkpoints
    }

    /// The modules, in the order of a row's values.
    pub fn modules(&self) -> &[SchemaModule] {
        &self.written.modules
    }

    /// The loss, in words.
    pub fn loss(&self) -> &str {
        &self.written.loss
    }

    /// Whether the gradients are those of true labels or of labels that the model drew.
    pub fn labels(&self) -> &str {
        &self.written.labels
    }

    /// The tool that the gradients were imported from; `None` where a collector took them.
    pub fn origin(&self) -> Option<&str> {
        self.written.origin.as_deref()
    }
}

impl SketchSchema {
    /// Checks that gradients of a query can be compared with rows of this schema: the same members, modules, projections, scaling and
    /// origin. Losses and labels may differ, and rows of a sparse module may name fewer places.
    ///
    /// # Errors
    /// They cannot; the text says what differs.
    ///
    /// ```
    /// use ascribe::sketch::SketchSchema;
    /// let text = |terms: u32, seed: u32| format!(
    ///     r#"{{"members": 1, "checkpoints": [{{"run": 0, "epoch": 3}}], "loss": "l", "labels": "true", "modules": [
    ///       {{"name": "words", "out": 4, "in": 90, "encoding": "sparse", "terms": {terms}}},
    ///       {{"name": "out", "out": 9, "in": 9, "encoding": "dense",
    ///         "projection": {{"kind": "rademacher", "seed": {seed}, "out": 2, "in": 2}}}}]}}"#);
    /// let [rows, fewer, more, other] =
    ///     [(8, 7), (5, 7), (9, 7), (8, 6)].map(|(terms, seed)| SketchSchema::parse(&text(terms, seed)).unwrap());
    /// assert_eq!(rows.check_query(&fewer), Ok(()));
    /// assert!(rows.check_query(&more).unwrap_err().contains("9 places a row, the column 8"));
    /// assert!(rows.check_query(&other).unwrap_err().contains("module \"out\""));
    /// ```
    pub fn check_query(&self, query: &Self) -> Result<(), String> {
        let (own, other) = (&self.written, &query.written);
        if own.members != other.members {
            return Err(format!("it has {} members, the column {}", other.members, own.members));
        }
        if own.modules.len() != other.modules.len() {
            return Err(format!("it has {} modules, the column {}", other.modules.len(), own.modules.len()));
        }
        for (own, other) in own.modules.iter().zip(&other.modules) {
            let alike = SchemaModule { terms: own.terms, ..other.clone() };
            if alike != *own {
                return Err(format!(
                    "module {:?} differs from the column's {:?} in its shape, encoding, rank or projection",
                    other.name, own.name
                ));
            }
            if let (Some(most), Some(terms)) = (own.terms, other.terms)
                && terms > most
            {
                return Err(format!(
                    "module {:?} names {terms} places a row, the column {most}: collect queries with the settings of the rows",
                    own.name
                ));
            }
        }
        if own.scaling != other.scaling {
            let said = |scaling: &Option<String>| scaling.clone().unwrap_or_else(|| "not at all".to_owned());
            return Err(format!(
                "its gradients are scaled by {:?}, those of the column by {:?}",
                said(&other.scaling),
                said(&own.scaling)
            ));
        }
        if own.origin != other.origin {
            let said = |origin: &Option<String>| origin.clone().unwrap_or_else(|| "ascribe".to_owned());
            return Err(format!(
                "it comes from {:?}, the column from {:?}",
                said(&other.origin),
                said(&own.origin)
            ));
        }
        Ok(())
    }
}

impl SchemaModule {
    fn refuse(&self, reason: impl Into<String>) -> SketchSchemaError {
        SketchSchemaError::Module { name: self.name.clone(), reason: reason.into() }
    }

    /// The entry of the module table: widths after the projection.
    fn to_entry(&self) -> Result<SketchModule, SketchSchemaError> {
        if self.name.is_empty() || self.name.len() > MODULE_NAME_BYTES_MAX {
            let reason = format!("needs a name of 1 to {MODULE_NAME_BYTES_MAX} bytes");
            return Err(self.refuse(reason));
        }
        let encoding = match (self.encoding.as_str(), self.shared_input) {
            ("factored", false) => ModuleEncoding::Factored,
            ("factored", true) => ModuleEncoding::SharedInput,
            ("sparse", _) => ModuleEncoding::Sparse,
            ("dense", false) => ModuleEncoding::Dense,
            ("dense", true) => return Err(self.refuse("is dense: only factored modules share inputs")),
            (other, _) => {
                return Err(self.refuse(format!(
                    "has the encoding {other:?}: use \"factored\", \"sparse\" or \"dense\""
                )));
            }
        };
        let (mut out, mut input) = (self.out, self.input);
        if let Some(projection) = &self.projection {
            if projection.kind != "rademacher" {
                return Err(self.refuse(format!(
                    "has a projection of kind {:?}: \"rademacher\" is the only one",
                    projection.kind
                )));
            }
            if encoding == ModuleEncoding::Sparse && projection.input.is_some() {
                return Err(self.refuse("is sparse: its input cannot be projected"));
            }
            out = projection.out.unwrap_or(out);
            input = projection.input.unwrap_or(input);
        }
        let rank = match (encoding, self.rank) {
            (ModuleEncoding::Dense, None | Some(0)) => 0,
            (ModuleEncoding::Dense, Some(_)) => return Err(self.refuse("is dense: it has no rank")),
            (_, rank) => rank.unwrap_or(1),
        };
        let terms = match (encoding, self.terms) {
            (ModuleEncoding::Sparse, Some(terms)) => terms,
            (ModuleEncoding::Sparse, None) => {
                return Err(self.refuse("is sparse: give \"terms\", the places that a row names"));
            }
            (_, None | Some(0)) => 0,
            (_, Some(_)) => return Err(self.refuse("has terms: only sparse modules have them")),
        };
        Ok(SketchModule { name: self.name.clone(), encoding, rank, out, input, terms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"members": 2, "checkpoints": [{"run": 0, "epoch": 1}, {"run": 0, "epoch": 12}],
        "loss": "cross-entropy, summed", "labels": "true", "modules": [
        {"name": "net.0", "out": 64, "in": 785, "bias": true, "encoding": "factored", "rank": 1, "shared_input": true},
        {"name": "net.2", "out": 9, "in": 65, "bias": true, "encoding": "dense",
         "projection": {"kind": "rademacher", "seed": 7, "out": 4, "in": 8}},
        {"name": "words", "out": 64, "in": 30000, "encoding": "sparse", "terms": 16}]}"#;

    #[test]
    fn widths_are_those_after_the_projection() {
        let schema = SketchSchema::parse(TEXT).unwrap();
        assert_eq!(schema.layout().width(), 2 * (64 + 32 + 64 + 16) + 785);
        assert_eq!((schema.members(), schema.modules().len()), (2, 3));
        assert_eq!(schema.checkpoints()[1], Checkpoint { run: 0, epoch: 12 });
    }

    #[test]
    fn spelling_does_not_count_and_content_does() {
        let schema = SketchSchema::parse(TEXT).unwrap();
        let spelled =
            SketchSchema::parse(&TEXT.replace("\n", " ").replace("\"rank\": 1, ", "\"rank\": 1,\t"));
        assert_eq!(spelled.unwrap().fingerprint(), schema.fingerprint());
        for (from, to) in [("\"seed\": 7", "\"seed\": 8"), ("\"epoch\": 12", "\"epoch\": 13"), ("words", "w")]
        {
            let other = SketchSchema::parse(&TEXT.replace(from, to)).unwrap();
            assert_ne!(other.fingerprint(), schema.fingerprint(), "{from}");
        }
    }

    #[test]
    fn schemas_that_cannot_be_are_refused_with_the_reason() {
        for (from, to, said) in [
            ("\"members\": 2", "\"members\": 3", "2 checkpoints for 3 members"),
            ("net.2", "net.0", "\"net.0\" of the schema stands twice"),
            ("rademacher", "gauss", "\"rademacher\" is the only one"),
            ("\"encoding\": \"dense\"", "\"encoding\": \"dense\", \"rank\": 2", "it has no rank"),
            ("\"encoding\": \"sparse\", \"terms\": 16", "\"encoding\": \"sparse\"", "give \"terms\""),
            ("\"out\": 64", "\"out\": 0", "cannot be stored"),
            ("\"labels\"", "\"label\"", "unknown field `label`"),
            ("\"out\": 64, \"in\": 785", "\"out\": 64, \"in\": 4294967295", "too many values"),
        ] {
            let error = SketchSchema::parse(&TEXT.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(said), "{to}: {error}");
        }
        assert!(SketchSchema::parse(&" ".repeat(SKETCH_SCHEMA_BYTES_MAX + 1)).is_err());
    }
}
