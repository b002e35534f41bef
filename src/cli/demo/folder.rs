//! The folder that the demo may fill.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::failure::Failure;

/// File that says a folder was made by the demo, so that the demo may empty it again.
const MARKER_NAME: &str = "made-by-ascribe-demo.txt";

const MARKER_TEXT: &str = "This folder was filled by \"ascribe demo\". Running the demo on it again replaces \
                           \"store\", \"classifier\" and \"artworks.jsonl\".\n";

/// Names in the temporary folder that are tried: those of other demos of the same process number are in the way.
const NAMES_TRIED_MAX: u32 = 100;

/// A folder with nothing in it but the demo's marker.
pub(super) struct DemoFolder {
    path: PathBuf,
}

impl DemoFolder {
    /// The folder `path`, or a new one in the system's temporary folder. One that holds files of somebody else is
    /// refused; what an earlier demo left is removed.
    pub(super) fn prepare(path: Option<&Path>) -> Result<Self, Failure> {
        let path = match path {
            None => new_temporary_folder()?,
            Some(path) => {
                fs::create_dir_all(path).map_err(|error| cannot("create", path, &error))?;
                path.to_owned()
            }
        };
        let folder = Self { path };
        folder.empty()?;
        let marker = folder.path.join(MARKER_NAME);
        fs::write(&marker, MARKER_TEXT).map_err(|error| cannot("write", &marker, &error))?;
        Ok(folder)
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the store goes.
    pub(super) fn store(&self) -> PathBuf {
        self.path.join("store")
    }

    /// Where the store of the classifier goes.
    pub(super) fn classifier(&self) -> PathBuf {
        self.path.join("classifier")
    }

    /// Where the documents go.
    pub(super) fn documents(&self) -> PathBuf {
        self.path.join("artworks.jsonl")
    }

    fn empty(&self) -> Result<(), Failure> {
        let mut entries = fs::read_dir(&self.path).map_err(|error| cannot("read", &self.path, &error))?;
        if entries.next().is_none() {
            return Ok(());
        }
        if !self.path.join(MARKER_NAME).is_file() {
            return Err(Failure::Failed(format!(
                "{} holds files that are not of a demo; give a new or empty folder with --dir",
                self.path.display()
            )));
        }
        // Only what a demo makes; anything else in the folder stays.
        let removed = fs::remove_file(self.documents()).or_else(ignore_missing);
        removed.map_err(|error| cannot("remove", &self.documents(), &error))?;
        for folder in [self.store(), self.classifier()] {
            let removed = fs::remove_dir_all(&folder).or_else(ignore_missing);
            removed.map_err(|error| cannot("remove", &folder, &error))?;
        }
        Ok(())
    }
}

fn ignore_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn cannot(action: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::Failed(format!("cannot {action} {}: {error}; choose another folder with --dir", path.display()))
}

fn new_temporary_folder() -> Result<PathBuf, Failure> {
    let parent = std::env::temp_dir();
    let process = std::process::id();
    for attempt in 0..NAMES_TRIED_MAX {
        let name = if attempt == 0 {
            format!("ascribe-demo-{process}")
        } else {
            format!("ascribe-demo-{process}-{attempt}")
        };
        let path = parent.join(name);
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(cannot("create", &path, &error)),
        }
    }
    Err(Failure::Failed(format!("{} is full of demos; give a folder with --dir", parent.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_somebody_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("store");
        fs::write(&file, "mine").unwrap();
        assert!(DemoFolder::prepare(Some(folder.path())).is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_second_demo_replaces_the_first_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let folder = DemoFolder::prepare(Some(&path)).unwrap();
        fs::create_dir(folder.store()).unwrap();
        fs::write(folder.store().join("CURRENT"), "old").unwrap();
        fs::write(folder.documents(), "old").unwrap();
        fs::write(path.join("notes.txt"), "mine").unwrap();
        let again = DemoFolder::prepare(Some(&path)).unwrap();
        assert!(!again.store().exists() && !again.documents().exists());
        assert_eq!(fs::read_to_string(path.join("notes.txt")).unwrap(), "mine");
    }

    #[test]
    fn a_store_that_is_a_link_is_not_followed() {
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("precious"), "mine").unwrap();
        let parent = tempfile::tempdir().unwrap();
        let folder = DemoFolder::prepare(Some(parent.path())).unwrap();
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(elsewhere.path(), folder.store()).unwrap();
            let _ = DemoFolder::prepare(Some(parent.path()));
            assert_eq!(fs::read_to_string(elsewhere.path().join("precious")).unwrap(), "mine");
        }
    }
}
