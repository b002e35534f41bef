//! Single settings of a YAML file, as PyYAML writes plain tables: one `name: value` a line, nested by indentation.
//!
//! No other YAML is understood: a value over several lines, a list or an anchor is no setting that anything here asks for.

use super::ForeignError;
use super::files::ForeignFile;

/// Bytes of a file of settings. Those of the tools have some thousand.
const SETTINGS_BYTES_MAX: usize = 1 << 20;

/// The settings of a file.
pub(super) struct Settings<'a> {
    file: ForeignFile<'a>,
    /// The name of the table that it stands in, name, value, and line from 1.
    entries: Vec<(&'a str, &'a str, &'a str, usize)>,
}

impl<'a> Settings<'a> {
    pub(super) fn read(file: ForeignFile<'a>) -> Result<Self, ForeignError> {
        super::pickle::refuse_pickle(&file.name, file.bytes)?;
        if file.bytes.len() > SETTINGS_BYTES_MAX {
            let reason = format!(
                "has {} bytes; a file of settings has at most {SETTINGS_BYTES_MAX}",
                file.bytes.len()
            );
            return Err(file.refuse(reason));
        }
        let text = str::from_utf8(file.bytes)
            .map_err(|error| file.refuse(format!("byte {} is not valid UTF-8", error.valid_up_to())))?;
        let mut entries = Vec::new();
        let mut tables: Vec<(usize, &str)> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            // An item of a list is indented as the table in it.
            let content = line.trim_start_matches([' ', '-']);
            let indentation = line.len() - content.len();
            let Some((name, value)) = content.split_once(':') else { continue };
            if name.is_empty() || name.starts_with('#') || !(value.is_empty() || value.starts_with(' ')) {
                continue;
            }
            tables.retain(|(of_table, _)| *of_table < indentation);
            let table = tables.last().map_or("", |(_, name)| name);
            let value = value.trim();
            if value.is_empty() {
                tables.push((indentation, name));
            } else {
                entries.push((table, name, unquoted(value), number + 1));
            }
        }
        Ok(Self { file, entries })
    }

    /// The value of `name` in the table `table` (empty: in none); `None` where it is not there or null.
    ///
    /// # Errors
    /// It stands there twice with two values.
    pub(super) fn get(&self, table: &str, name: &str) -> Result<Option<&'a str>, ForeignError> {
        let mut found = self.entries.iter().filter(|(of, own, ..)| *of == table && *own == name);
        let Some((_, _, first, _)) = found.next() else { return Ok(None) };
        if let Some((_, _, other, line)) = found.find(|(_, _, value, _)| value != first) {
            let reason = format!(
                "{name} is {first:?} and {other:?} (line {line}): it describes several steps; run the one that wrote the gradients alone"
            );
            return Err(self.file.refuse(reason));
        }
        Ok(Some(*first).filter(|value| !matches!(*value, "null" | "~" | "")))
    }

    /// Refuses a setting by its name.
    pub(super) fn refuse(&self, name: &str, reason: impl Into<String>) -> ForeignError {
        self.file.refuse_field(name, reason)
    }
}

fn unquoted(value: &str) -> &str {
    ['\'', '"'].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote)).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_found_in_their_tables() {
        let text = b"steps:\n- build:\n    index_cfg:\n      loss_fn: ce\n      data:\n        split: train\n      empty: ''\n      hessian_path: null\n    other:\n      loss_fn: 'kl'\nmetadata:\n  version: 2.5.1\ntop: \"x\"\n# no: comment\n";
        let read =
            |text: &'static [u8]| Settings::read(ForeignFile { name: "c.yaml".to_owned(), bytes: text });
        let settings = read(text).unwrap();
        for (table, name, value) in [
            ("index_cfg", "loss_fn", Some("ce")),
            ("other", "loss_fn", Some("kl")),
            ("data", "split", Some("train")),
            ("metadata", "version", Some("2.5.1")),
            ("", "top", Some("x")),
            ("index_cfg", "empty", None),
            ("index_cfg", "hessian_path", None),
            ("index_cfg", "split", None),
            ("", "no", None),
        ] {
            assert_eq!(settings.get(table, name).unwrap(), value, "{table} {name}");
        }
        let twice = read(b"a:\n  b: 1\nc:\n  a:\n    b: 2\n").unwrap();
        assert!(
            twice.get("a", "b").unwrap_err().to_string().starts_with("c.yaml: b is \"1\" and \"2\" (line 5)")
        );
        assert!(read(b"a: \xff").is_err() && read(b"\x80\x02}q\0.").is_err());
    }
}
