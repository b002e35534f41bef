//! Lengths of whitened gradients: kept with a fit, and computed for rows that came later.

use std::sync::Arc;

use ascribe::base::Cancel;
use ascribe::curvature::{CurvatureForm, CurvatureKind};
use ascribe::engine::{FitOptions, Reader};
use ascribe::format::{curvature_section, decode_current, decode_manifest, encode_manifest, manifest_name};
use ascribe::storage::{
    SimulatedStorage, Storage, curvature_file_name, open_curvature_file, write_curvature_file,
};

use crate::gradients::Gradients;
use crate::scene::{Scene, TRAIN, close, options};

const FITS: [(CurvatureKind, Option<CurvatureForm>); 11] = [
    (CurvatureKind::Identity, None),
    (CurvatureKind::Diagonal, None),
    (CurvatureKind::Kfac, None),
    (CurvatureKind::Ekfac, None),
    (CurvatureKind::Fisher, Some(CurvatureForm::Primal)),
    (CurvatureKind::Margin, Some(CurvatureForm::Primal)),
    (CurvatureKind::Fisher, Some(CurvatureForm::Landmarks)),
    (CurvatureKind::Margin, Some(CurvatureForm::Landmarks)),
    (CurvatureKind::Margin, Some(CurvatureForm::Dual)),
    (CurvatureKind::Trak, Some(CurvatureForm::Dual)),
    (CurvatureKind::Trak, Some(CurvatureForm::Landmarks)),
];

const FITTED: usize = 30;

/// A store fitted to some rows, and how they influence themselves, with those of all rows of `later` after the fit.
fn fitted(kind: CurvatureKind, form: Option<CurvatureForm>, later: &Gradients) -> Scene {
    let mut scene = Scene::of_rows(&Gradients::of_file(TRAIN).of_rows(0..FITTED));
    // So few landmarks do not see most of a gradient, and the leverage of what they do not see would be cut off at 1.
    let damping = (form == Some(CurvatureForm::Landmarks)).then_some(0.5);
    let fit = FitOptions { kind: Some(kind), form, landmarks: Some(7), damping, ..FitOptions::default() };
    scene.try_fit(&fit).unwrap();
    scene.import(later);
    scene
}

fn own(storage: &SimulatedStorage, kind: CurvatureKind) -> Vec<f64> {
    let medium: Arc<dyn Storage> = Arc::new(storage.clone());
    let reader = Reader::open(medium, options()).unwrap();
    reader.snapshot().self_influence(None, Some(kind), &Cancel::new()).unwrap()
}

/// The store with one section less in its curvature file.
fn without(storage: &SimulatedStorage, tag: u32) -> SimulatedStorage {
    let changed = storage.duplicate();
    let commit = decode_current(&changed.read_file("CURRENT").unwrap()).unwrap();
    let mut manifest = decode_manifest(&changed.read_file(&manifest_name(commit)).unwrap(), commit).unwrap();
    let record = &mut manifest.store.curvatures[0];
    let file = open_curvature_file(&changed, record.version, record.column, record.file).unwrap();
    let sections: Vec<(u32, Vec<u8>)> = (0..20)
        .filter(|known| *known != tag)
        .filter_map(|tag| {
            let section = file.section(tag)?;
            Some((tag, file.read(section, 0..section.length).unwrap().to_vec()))
        })
        .collect();
    drop(file);
    changed.remove(&curvature_file_name(record.version)).unwrap();
    let pieces: Vec<(u32, Vec<&[u8]>)> =
        sections.iter().map(|(tag, bytes)| (*tag, vec![bytes.as_slice()])).collect();
    record.file = write_curvature_file(&changed, record.version, record.column, &pieces).unwrap();
    changed.overwrite_file(&manifest_name(commit), &encode_manifest(&manifest).unwrap()).unwrap();
    changed
}

#[test]
fn a_row_that_comes_later_is_as_long_as_its_twin_in_the_fit() {
    let rows = Gradients::of_file(TRAIN);
    let mut twins = rows.of_rows(0..10);
    twins.keys.iter_mut().for_each(|key| *key = key.replace('r', "twin"));
    for (kind, form) in FITS {
        let storage = fitted(kind, form, &twins).verify();
        let found = own(&storage, kind);
        assert_eq!(found.len(), FITTED + 10);
        let expected: Vec<f64> = (0..10)
            .map(|row| {
                let own = found[row];
                // A leverage is a share: h, and h / (1 + h) of a row that is counted once more. Self-influence has a weight of the
                // row on top of it.
                let written = crate::formula::Written::of_file(TRAIN);
                let weight = match kind {
                    CurvatureKind::Trak => written.members[0].own[row].powi(2),
                    _ => written.weights(0, row).1.powi(2),
                };
                if kind.is_weighted() { own / (1.0 + own / weight) } else { own }
            })
            .collect();
        close(&[found[FITTED..].to_vec()], &[expected], 1e-9, &format!("{} {form:?}", kind.name()));
    }
}

#[test]
fn lengths_that_were_kept_are_those_that_are_computed_anew() {
    let rows = Gradients::of_file(TRAIN);
    for (kind, form) in FITS {
        let mut scene = fitted(kind, form, &rows.of_rows(FITTED..40));
        scene.delete(&rows.of_rows([3, 33]).keys);
        let storage = scene.verify();
        let kept = own(&storage, kind);
        let file = |storage: &SimulatedStorage| storage.read_file(&curvature_file_name(1)).unwrap().len();
        let bare = without(&storage, curvature_section::LENGTHS);
        assert_eq!(file(&bare) < file(&storage), form != Some(CurvatureForm::Dual), "{}", kind.name());
        close(&[kept], &[own(&bare, kind)], 1e-12, &format!("{} {form:?}", kind.name()));
    }
}
