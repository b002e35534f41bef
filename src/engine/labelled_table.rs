//! Rows with their embeddings and labels, as what is trained and audited needs them.

use super::head_column::LabelledRow;

/// Rows of an embedding column, of which some have a label.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledTable {
    /// Keys of all rows.
    pub keys: Vec<String>,
    /// Values of an embedding.
    pub width: usize,
    /// Embeddings of the rows with a label, `labels.len()` x `width`.
    pub features: Vec<f32>,
    /// Their labels, as numbers of `classes`.
    pub labels: Vec<u32>,
    /// All labels, sorted.
    pub classes: Vec<String>,
    /// For each row its number among those with a label.
    pub labelled: Vec<Option<usize>>,
}

impl LabelledTable {
    /// The table of these rows.
    ///
    /// ```
    /// use ascribe::engine::LabelledTable;
    /// let row = |key: &str, value, label: Option<&str>| (key.to_owned(), vec![value], label.map(str::to_owned));
    /// let table = LabelledTable::new(vec![row("a", 1.0, Some("cat")), row("b", 2.0, None), row("c", 3.0, Some("ant"))]);
    /// assert_eq!((table.classes.len(), table.labels), (2, vec![1, 0]));
    /// assert_eq!((table.features, table.labelled), (vec![1.0, 3.0], vec![Some(0), None, Some(1)]));
    /// ```
    pub fn new(rows: Vec<LabelledRow>) -> Self {
        let mut classes: Vec<String> = rows.iter().filter_map(|(_, _, label)| label.clone()).collect();
        classes.sort();
        classes.dedup();
        let width = rows.first().map_or(0, |(_, vector, _)| vector.len());
        let (keys, features, labels, labelled) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut table = Self { keys, width, features, labels, classes, labelled };
        for (key, vector, label) in rows {
            table.keys.push(key);
            let class = label.and_then(|label| table.class_of(&label));
            table.labelled.push(class.map(|class| {
                table.features.extend(vector);
                table.labels.push(class);
                table.labels.len() - 1
            }));
        }
        table
    }

    /// The number of a label; `None` if no row has it.
    pub fn class_of(&self, label: &str) -> Option<u32> {
        self.classes.binary_search_by(|class| class.as_str().cmp(label)).ok().map(|class| class as u32)
    }

    /// Keys of the rows with a label, in their order.
    pub fn labelled_keys(&self) -> impl Iterator<Item = &String> {
        self.keys.iter().zip(&self.labelled).filter(|(_, number)| number.is_some()).map(|(key, _)| key)
    }
}
