//! The data: 4,284 artworks of the Tate collection, 1990 to 2012.

use serde_json::{Map, Value, json};

use super::super::failure::Failure;

/// One artwork a line; see `tools/demo-data/README.md` for where it comes from.
const ARTWORKS: &str = include_str!("../../../tools/demo-data/tate.jsonl");

/// The artworks as JSONL documents, one a line without its line end: `key`, `text` ("TITLE, by ARTIST (MEDIUM)") and
/// the fields `artist`, `technique` and `year`.
pub(super) fn documents() -> Result<Vec<String>, Failure> {
    ARTWORKS.lines().map(document).collect()
}

fn document(line: &str) -> Result<String, Failure> {
    let artwork: Map<String, Value> = serde_json::from_str(line)?;
    let field = |name: &str| artwork.get(name).cloned().unwrap_or_default();
    let words = |name: &str| artwork.get(name).and_then(Value::as_str).unwrap_or_default();
    let text = format!("{}, by {} ({})", words("title"), words("artist"), words("medium"));
    let document = json!({
        "key": field("key"),
        "text": text,
        "artist": field("artist"),
        "technique": field("technique"),
        "year": field("year"),
    });
    Ok(document.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_artwork_becomes_a_document_with_all_fields() {
        let documents = documents().unwrap();
        assert_eq!(documents.len(), 4284);
        for line in &documents {
            let document: Map<String, Value> = serde_json::from_str(line).unwrap();
            for name in ["key", "text", "artist", "technique"] {
                assert!(document[name].as_str().is_some_and(|text| !text.is_empty()), "{line}");
            }
            assert!(document["year"].is_i64(), "{line}");
        }
        assert!(documents[0].contains("Proposals for a Habitat, by Absalon (Video"), "{}", documents[0]);
    }
}
