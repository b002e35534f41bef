//! What is left after a crash.

use std::collections::BTreeSet;

use super::state::{Content, ContentChange, Entry, Folder, Medium, NameChange, Names};
use crate::base::RandomStream;

/// Bytes that a disk writes wholly or not at all: the smallest sector in use.
pub(super) const SECTOR_BYTES: usize = 512;

/// Decides what survives.
enum Chooser {
    Everything,
    Nothing,
    /// `odds` of 8 effects survive.
    Drawn {
        stream: RandomStream,
        odds: u64,
    },
}

impl Chooser {
    fn new(seed: u64) -> Self {
        match seed % 8 {
            0 => Self::Everything,
            1 => Self::Nothing,
            _ => {
                let mut stream = RandomStream::new(seed);
                let odds = [1, 4, 4, 7][stream.below(4) as usize];
                Self::Drawn { stream, odds }
            }
        }
    }

    fn keep(&mut self) -> bool {
        match self {
            Self::Everything => true,
            Self::Nothing => false,
            Self::Drawn { stream, odds } => stream.below(8) < *odds,
        }
    }

    /// Whether the next write is torn: each of its sectors has a fate of its own.
    fn tear(&mut self) -> bool {
        match self {
            Self::Everything | Self::Nothing => false,
            Self::Drawn { stream, .. } => stream.below(3) == 0,
        }
    }
}

/// What a medium is rebuilt from.
trait Outcome {
    fn names(&mut self, folder: &Folder) -> Names;
    fn bytes(&mut self, content: &Content) -> Vec<u8>;
}

impl Outcome for Chooser {
    fn names(&mut self, folder: &Folder) -> Names {
        surviving_names(folder, self)
    }

    fn bytes(&mut self, content: &Content) -> Vec<u8> {
        surviving_content(content, self)
    }
}

/// Everything as it is.
struct Live;

impl Outcome for Live {
    fn names(&mut self, folder: &Folder) -> Names {
        folder.live.clone()
    }

    fn bytes(&mut self, content: &Content) -> Vec<u8> {
        content.live.to_vec()
    }
}

/// The medium that `crashed` leaves behind: what was durable, and of the rest what `seed` chooses.
pub(super) fn survivor(crashed: &Medium, seed: u64) -> Medium {
    rebuild(crashed, &mut Chooser::new(seed))
}

/// A medium with the live state of `medium`, durable.
pub(super) fn copy(medium: &Medium) -> Medium {
    rebuild(medium, &mut Live)
}

fn rebuild(medium: &Medium, outcome: &mut dyn Outcome) -> Medium {
    let mut rebuilt = Medium::empty(medium.capacity_bytes);
    let mut open = vec![String::new()];
    while let Some(path) = open.pop() {
        let Some(folder) = medium.folders.get(&path) else { continue };
        let mut names = outcome.names(folder);
        for (name, entry) in &mut names {
            match entry {
                Entry::File(number) => {
                    let bytes = outcome.bytes(&medium.files[*number]);
                    *number = rebuilt.files.len();
                    rebuilt.files.push(Content::of_durable(bytes));
                }
                Entry::Folder if path.is_empty() => open.push(name.clone()),
                Entry::Folder => open.push(format!("{path}/{name}")),
            }
        }
        let folder = Folder { live: names.clone(), durable: names, pending: Vec::new() };
        rebuilt.folders.insert(path, folder);
    }
    rebuilt
}

/// Changes of one name survive up to some moment; a rename ties two names together.
fn surviving_names(folder: &Folder, chooser: &mut Chooser) -> Names {
    let mut names = folder.durable.clone();
    let mut ended: BTreeSet<&str> = BTreeSet::new();
    for change in &folder.pending {
        let touched = change.touched();
        let possible = !touched.iter().any(|name| ended.contains(name));
        if chooser.keep() && possible {
            NameChange::apply(change, &mut names);
        } else {
            ended.extend(touched);
        }
    }
    names
}

/// Replays the changes on an image of the file in memory; a sector that reaches the disk is a copy of the image's
/// sector at that moment, so that it holds the earlier changes of this sector too.
fn surviving_content(content: &Content, chooser: &mut Chooser) -> Vec<u8> {
    let mut image = content.durable.clone();
    let mut survivor = content.durable.clone();
    let mut length_is_kept = true;
    for change in &content.pending {
        change.apply(&mut image);
        match change {
            ContentChange::SetLength(length) => {
                // Lengths go through the file system's journal, in order.
                length_is_kept &= chooser.keep();
                if length_is_kept {
                    survivor.resize(*length, 0);
                }
            }
            ContentChange::Write { offset, bytes } => {
                let end = offset + bytes.len();
                let torn = chooser.tear();
                let whole = chooser.keep();
                for sector in offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
                    if if torn { chooser.keep() } else { whole } {
                        copy_sector(&image, &mut survivor, sector, end);
                    }
                }
                // The new length may arrive without the bytes.
                if chooser.keep() && survivor.len() < end {
                    survivor.resize(end, 0);
                }
            }
        }
    }
    survivor
}

fn copy_sector(image: &[u8], survivor: &mut Vec<u8>, sector: usize, written_end: usize) {
    let start = sector * SECTOR_BYTES;
    let length = written_end.min(start + SECTOR_BYTES);
    if survivor.len() < length {
        survivor.resize(length, 0);
    }
    let mut bytes = [0; SECTOR_BYTES];
    let known = &image[start..image.len().min(start + SECTOR_BYTES)];
    bytes[..known.len()].copy_from_slice(known);
    let end = survivor.len().min(start + SECTOR_BYTES);
    survivor[start..end].copy_from_slice(&bytes[..end - start]);
}
