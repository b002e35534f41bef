//! The verb: step by step, with what to look at.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;

use super::super::catalog_check::CheckInChild;
use super::super::failure::Failure;
use super::super::schema::{parse_column, parse_field};
use super::super::session::Session;
use super::artworks::documents;
use super::folder::DemoFolder;
use crate::answers::{
    AnswerDetail, AnswerWriter, Grid, GridColumn, OutputFormat, bytes_shown, count_shown, duration_shown,
    question_value, stages_report,
};
use crate::attribution::Side;
use crate::engine::{
    self, ColumnDefinition, CreateOptions, DeleteSelection, EMBEDDING_COLUMN_NAME, IngestOptions,
    IngestReport, Query, Reader, Snapshot, Store,
};
use crate::sources::{FieldNames, open_path};
use crate::storage::{DiskOptions, DiskStorage, Storage};

/// The built-in encoder of words.
const WORDS_ENCODER: &str = "hashed:512";

/// The column that has its vectors where the first has those of a model.
const WORDS_COLUMN: &str = "words";

/// A question whose best rows share no words with it.
const THEME_QUESTION: &str = "grief over somebody who died";

/// Artworks that come later, as an increment.
const LATER_ROWS: usize = 200;

/// Widest page on which a table shows no metadata: here all of it is in the texts.
const PAGE_WIDTH_MAX: u16 = 99;

/// The question whose best rows are deleted later.
const ARTIST_QUESTION: &str = "etching by Leon Kossoff";
/// The artist of those rows.
const ARTIST_FILTER: &str = "artist = 'Kossoff, Leon'";
/// The question that the later artworks answer better.
const LATER_QUESTION: &str = "sunflower seeds made of porcelain";

/// Show the whole main job on real data: 4,284 artworks of the Tate collection
///
/// Makes a store, fills it, asks it, adds rows, deletes rows, checks it; trains a classifier on titles and shows which works
/// make it say what it says; and leaves all of it behind to try things on.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  ascribe demo")]
pub(in super::super) struct DemoArguments {
    /// Folder to fill: new, empty, or of an earlier demo [default: a new one in the system's temporary folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Folder of a BERT sentence encoder to take vectors from, beside the built-in encoder of words
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
}

/// The tour: where it goes, and what was measured on the way.
struct Tour<'s, 'out> {
    session: &'s mut Session<'out>,
    folder: DemoFolder,
    model: Option<PathBuf>,
    storage: Arc<dyn Storage>,
    measured: Vec<(&'static str, String)>,
}

impl DemoArguments {
    pub(in super::super) fn run(self, session: &mut Session<'_>) -> Result<(), Failure> {
        session.page.width = session.page.width.min(PAGE_WIDTH_MAX);
        let folder = DemoFolder::prepare(self.dir.as_deref())?;
        let storage: Arc<dyn Storage> = Arc::new(DiskStorage::new(folder.store(), DiskOptions::default()));
        Tour { session, folder, model: self.model, storage, measured: Vec::new() }.run()
    }
}

impl Tour<'_, '_> {
    fn run(mut self) -> Result<(), Failure> {
        let documents = documents()?;
        let (first, later) = documents.split_at(documents.len().saturating_sub(LATER_ROWS));
        let mut store = self.fill(first)?;
        self.ask(&store.snapshot())?;
        self.add_later(&mut store, later)?;
        self.delete(&mut store)?;
        drop(store);
        self.reopen()?;
        self.verify()?;
        self.classify(&documents)?;
        self.summarise()?;
        self.what_next()
    }

    fn fill(&mut self, documents: &[String]) -> Result<Store, Failure> {
        self.session.line(&format!(
            "Artworks of the Tate collection, 1990 to 2012, in {}\n\
             Each is a row: title, artist and medium as text; artist, technique and year as fields.",
            self.folder.path().display()
        ))?;
        self.session.line(&match &self.model {
            Some(model) => format!(
                "Vectors come from the sentence encoder in {}, which reads meaning;\n\
                 a second column, \"{WORDS_COLUMN}\", has those of the built-in encoder of words ({WORDS_ENCODER}).",
                model.display()
            ),
            None => format!(
                "Vectors come from the built-in encoder of words ({WORDS_ENCODER}), which needs no model."
            ),
        })?;
        self.append(documents)?;
        let fields = ["artist:text", "technique:text", "year:integer"].map(parse_field);
        let fields = fields.into_iter().collect::<Result<Vec<_>, _>>().map_err(Failure::Failed)?;
        let columns = self.columns()?;
        self.storage.create_folder("")?;
        let mut store =
            Store::create(Arc::clone(&self.storage), CreateOptions { fields, columns }, open_options())?;
        let start = Instant::now();
        let report = self.ingest(&mut store)?;
        let rate = report.rows_added as f64 / start.elapsed().as_secs_f64().max(1e-9);
        self.measure(
            "ingest of the first artworks",
            format!("{}, {} rows a second", duration_shown(start.elapsed()), count_shown(rate as u64)),
        );
        self.heading(&format!(
            "1. Ingested {} artworks; reading, preparing, encoding and writing overlap:",
            count_shown(report.rows_added)
        ))?;
        self.session.report(OutputFormat::Table, &stages_report(&report.stages))?;
        Ok(store)
    }

    fn columns(&self) -> Result<Vec<ColumnDefinition>, Failure> {
        match &self.model {
            Some(model) => Ok(vec![
                parse_column(EMBEDDING_COLUMN_NAME, &model.to_string_lossy())?,
                parse_column(WORDS_COLUMN, WORDS_ENCODER)?,
            ]),
            None => Ok(vec![parse_column(EMBEDDING_COLUMN_NAME, WORDS_ENCODER)?]),
        }
    }

    fn ask(&mut self, snapshot: &Snapshot) -> Result<(), Failure> {
        self.heading(&format!("2. Which rows speak for \"{ARTIST_QUESTION}\"?"))?;
        let elapsed = self.answer(snapshot, &question(ARTIST_QUESTION, 5, Side::Both))?;
        self.measure("a question over all rows", duration_shown(elapsed));
        if self.model.is_some() {
            self.ask_by_meaning(snapshot)?;
        } else {
            self.ask_by_words(snapshot)?;
        }
        let filter = "technique = 'etching' AND year >= 2000";
        self.heading(&format!("5. Only some rows: \"the moon\" where {filter}"))?;
        let query = Query { filter: Some(filter.to_owned()), ..question("the moon", 3, Side::Proponents) };
        self.answer(snapshot, &query).map(|_| ())
    }

    fn ask_by_meaning(&mut self, snapshot: &Snapshot) -> Result<(), Failure> {
        self.heading(&format!("3. By meaning: \"{THEME_QUESTION}\""))?;
        self.answer(snapshot, &question(THEME_QUESTION, 4, Side::Proponents))?;
        self.heading(&format!("4. The same by shared words (--column {WORDS_COLUMN})"))?;
        let column = Some(WORDS_COLUMN.to_owned());
        let query = Query { column, ..question(THEME_QUESTION, 4, Side::Proponents) };
        self.answer(snapshot, &query).map(|_| ())
    }

    fn ask_by_words(&mut self, snapshot: &Snapshot) -> Result<(), Failure> {
        self.session.line(
            "Opponents are rows that more weight on would push the answer away. Vectors made from shared\n\
             words rarely have strong ones: what you see at that end is mostly noise. Learned or gradient\n\
             vectors, which know what a model got wrong because of a row, are where opponents matter.",
        )?;
        self.heading("3. A theme instead of a name: \"a self-portrait\"")?;
        self.answer(snapshot, &question("a self-portrait", 3, Side::Both))?;
        self.heading("4. A misspelt name: \"Wolfgang Tilmans photograph\" (pieces of words count too)")?;
        self.answer(snapshot, &question("Wolfgang Tilmans photograph", 3, Side::Both)).map(|_| ())
    }

    fn add_later(&mut self, store: &mut Store, documents: &[String]) -> Result<(), Failure> {
        self.heading(&format!("6. New rows change an answer: \"{LATER_QUESTION}\", before"))?;
        self.answer(&store.snapshot(), &question(LATER_QUESTION, 3, Side::Proponents))?;
        self.append(documents)?;
        let start = Instant::now();
        let report = self.ingest(store)?;
        self.measure("ingest of the later artworks", duration_shown(start.elapsed()));
        self.session.line(&format!(
            "The file grew by {} rows and was ingested again: {} were read, the others were known. After:\n",
            count_shown(documents.len() as u64),
            count_shown(report.rows_read)
        ))?;
        self.answer(&store.snapshot(), &question(LATER_QUESTION, 3, Side::Proponents)).map(|_| ())
    }

    fn delete(&mut self, store: &mut Store) -> Result<(), Failure> {
        let start = Instant::now();
        let report = store.delete(&DeleteSelection::Where(ARTIST_FILTER.to_owned()))?;
        self.measure("deleting an artist", duration_shown(start.elapsed()));
        self.heading(&format!(
            "7. Deleted {} rows where {ARTIST_FILTER}; question 2 again",
            count_shown(report.rows)
        ))?;
        self.answer(&store.snapshot(), &question(ARTIST_QUESTION, 3, Side::Proponents)).map(|_| ())
    }

    fn reopen(&mut self) -> Result<(), Failure> {
        let start = Instant::now();
        let reader = Reader::open(Arc::clone(&self.storage), open_options())?;
        let answer =
            reader.snapshot().query(&question(ARTIST_QUESTION, 3, Side::Both), &self.session.cancel)?;
        let elapsed = start.elapsed();
        self.measure("closing, opening, first answer", duration_shown(elapsed));
        self.heading(&format!(
            "8. Closed and opened again: first answer over {} rows after {}",
            count_shown(answer.rows),
            duration_shown(elapsed)
        ))
    }

    fn verify(&mut self) -> Result<(), Failure> {
        let start = Instant::now();
        let report = engine::verify(&self.storage, true, &CheckInChild, self.session.watch())?;
        self.measure("checking every byte", duration_shown(start.elapsed()));
        let found = match report.problems.len() {
            0 => "no problem".to_owned(),
            count => format!("{count} problems"),
        };
        self.session.line(&format!(
            "9. Checked every byte: {} files, {}, {} rows, {found}",
            count_shown(report.files as u64),
            bytes_shown(report.bytes),
            count_shown(report.rows)
        ))?;
        if report.problems.is_empty() { Ok(()) } else { Err(Failure::Found) }
    }

    #[cfg(feature = "bert")]
    fn classify(&mut self, documents: &[String]) -> Result<(), Failure> {
        self.heading("10. By gradients: why does a classifier get a work wrong?")?;
        let storage: Arc<dyn Storage> =
            Arc::new(DiskStorage::new(self.folder.classifier(), DiskOptions::default()));
        let encoder = match &self.model {
            Some(model) => model.to_string_lossy().into_owned(),
            None => WORDS_ENCODER.to_owned(),
        };
        let classifier = super::classifier::Classifier { session: self.session, storage, encoder };
        self.measured.extend(classifier.run(documents)?);
        Ok(())
    }

    #[cfg(not(feature = "bert"))]
    fn classify(&mut self, _documents: &[String]) -> Result<(), Failure> {
        self.heading("10. Gradients of a classifier need a build with --features bert; left out")
    }

    fn summarise(&mut self) -> Result<(), Failure> {
        let documents = self.folder.documents();
        let documents_bytes = fs::metadata(&documents).map_or(0, |metadata| metadata.len());
        let statistics = Reader::open(Arc::clone(&self.storage), open_options())?.snapshot().statistics();
        self.measure("the documents as a file", bytes_shown(documents_bytes));
        self.measure("the store", bytes_shown(statistics.bytes_on_disk));
        self.measure(
            "  of it vectors, as f32",
            bytes_shown(statistics.embeddings.iter().map(|c| c.bytes).sum()),
        );
        self.heading("11. Sizes and times")?;
        let mut grid = Grid::new(&[("", GridColumn::Text), ("", GridColumn::Text)]);
        for (what, value) in &self.measured {
            grid.row([*what, value.as_str()]);
        }
        grid.write(self.session.out, self.session.page).map_err(Failure::Output)
    }

    fn what_next(&mut self) -> Result<(), Failure> {
        let program = std::env::args_os().next().unwrap_or_else(|| "ascribe".into());
        let program = shell_quoted(Path::new(&program));
        let store = shell_quoted(&self.folder.store());
        self.heading("The store stays. Try:")?;
        for command in [
            format!("{program} query {store} 'portrait of a mother' -k 3"),
            format!(
                "{program} query {store} 'Freud, Lucian' --where \"technique = 'etching'\" --format json"
            ),
            format!("{program} delete {store} --where \"artist = 'Hirst, Damien'\""),
            format!("{program} self {} -k 5", shell_quoted(&self.folder.classifier())),
            format!("{program} stats {store}"),
            format!("{program} verify {store} --deep"),
        ] {
            self.session.line(&format!("  {command}"))?;
        }
        Ok(())
    }

    /// Adds documents to the end of the file that is ingested.
    fn append(&self, documents: &[String]) -> Result<(), Failure> {
        let mut text = documents.join("\n");
        text.push('\n');
        let path = self.folder.documents();
        let appended = OpenOptions::new().create(true).append(true).open(&path);
        appended
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", path.display())))
    }

    /// Ingests what is new in the file.
    fn ingest(&self, store: &mut Store) -> Result<IngestReport, Failure> {
        let path = self.folder.documents();
        let name = path.display().to_string();
        let fields = FieldNames { key: Some("key".to_owned()), ..FieldNames::default() };
        let position = store.source_position(&name);
        let opened = open_path(&path, None, &fields, position.as_ref())?;
        let options = IngestOptions { resume_path: Some(name), ..IngestOptions::default() };
        let report = store.ingest(opened.source, &options, self.session.watch(), &mut |_| {})?;
        if report.cancelled {
            return Err(Failure::Interrupted(format!(
                "the demo is left in {}",
                self.folder.path().display()
            )));
        }
        Ok(report)
    }

    fn answer(&mut self, snapshot: &Snapshot, query: &Query) -> Result<Duration, Failure> {
        let answer = snapshot.query(query, &self.session.cancel)?;
        AnswerWriter::new(OutputFormat::Table, self.session.page, AnswerDetail::Plain)
            .write(self.session.out, &question_value(&query.input), &answer)
            .map_err(Failure::Output)?;
        Ok(answer.elapsed)
    }

    fn heading(&mut self, text: &str) -> Result<(), Failure> {
        self.session.line(&format!("\n{text}"))?;
        // Whoever reads along sees each step when it is done.
        self.session.out.flush().map_err(Failure::Output)
    }

    fn measure(&mut self, what: &'static str, value: String) {
        self.measured.push((what, value));
    }
}

fn open_options() -> engine::OpenOptions {
    engine::OpenOptions { catalog_check: Arc::new(CheckInChild), ..Default::default() }
}

fn question(text: &str, k: usize, side: Side) -> Query {
    Query { k, side, ..Query::text(text) }
}

/// `path` as a word that a POSIX shell reads back unchanged.
fn shell_quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_where_they_need_it() {
        assert_eq!(shell_quoted(Path::new("/tmp/ascribe-demo-1/store")), "/tmp/ascribe-demo-1/store");
        assert_eq!(shell_quoted(Path::new("/tmp/a b")), "'/tmp/a b'");
        assert_eq!(shell_quoted(Path::new("it's $HOME")), r"'it'\''s $HOME'");
    }
}
