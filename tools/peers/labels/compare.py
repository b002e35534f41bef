"""One table: ascribe's label audit and cleanlab on digits with flipped labels.

For each seed the same share of rows gets another label, drawn evenly from the wrong ones. Every method ranks all rows by
the flipped labels alone, and one function here measures all rankings; of equal scores the first rows are inspected.
"""

import argparse
import json
import math
import pathlib
import subprocess
import sys
import tempfile
import time
import warnings

import cleanlab
import numpy
import sklearn
from cleanlab.rank import get_label_quality_scores
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDS = 5
FRACTIONS = (0.1, 0.2)


def flip(true, share, seed):
    """The labels with a share of them wrong."""
    generator = numpy.random.default_rng(seed)
    labels = true.copy()
    classes = int(true.max()) + 1
    rows = generator.choice(len(true), size=round(share * len(true)), replace=False)
    labels[rows] = (labels[rows] + generator.integers(1, classes, size=len(rows))) % classes
    return labels


def measure(scores, flipped):
    """AUC, and the share found when the highest tenth and fifth are inspected; scores are high for suspicious rows."""
    order = numpy.argsort(-scores, kind="stable")
    found = [flipped[order[: math.ceil(fraction * len(scores) - 1e-9)]].sum() for fraction in FRACTIONS]
    return [float(roc_auc_score(flipped, scores)), *(float(count / flipped.sum()) for count in found)]


def cleanlab_scores(features, labels, seed):
    """Rankings by out-of-sample probabilities of two models, with both of cleanlab's usual label qualities."""
    models = {
        "logistic regression": LogisticRegression(max_iter=2000),
        "network": MLPClassifier(hidden_layer_sizes=(64,), early_stopping=True, max_iter=200, random_state=seed),
    }
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    for name, model in models.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pipeline = make_pipeline(StandardScaler(), model)
            probabilities = cross_val_predict(pipeline, features, labels, cv=folds, method="predict_proba")
        for method in ("self_confidence", "normalized_margin"):
            quality = get_label_quality_scores(labels, probabilities, method=method)
            yield f"cleanlab, {name}, {method.replace('_', ' ')}", 1.0 - quality


class Ascribe:
    """A store of the rows in a folder."""

    def __init__(self, program, folder, features, labels, true):
        self.program, self.folder = program, pathlib.Path(folder)
        keys = (
            json.dumps({"key": f"r{row}", "label": str(label), "true": str(clean)})
            for row, (label, clean) in enumerate(zip(labels, true))
        )
        (self.folder / "keys.jsonl").write_text("\n".join(keys) + "\n")
        numpy.save(self.folder / "vectors.npy", features.astype(numpy.float32))
        self.run("create", "store", "--encoder", f"vectors:{features.shape[1]}")
        self.run("import", "store", "--keys", "keys.jsonl", "--embeddings", "vectors.npy")

    def run(self, *arguments):
        done = subprocess.run([self.program, *arguments], cwd=self.folder, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def scores(self, *arguments):
        """What a verb writes for all rows, in the order of ingest."""
        self.run(*arguments, "--out", "scores.npy")
        return numpy.load(self.folder / "scores.npy").astype(numpy.float64)

    def methods(self):
        """AUC and shares found as `eval labels` prints them."""
        arguments = ("eval", "labels", "store", "--label", "label", "--clean", "true", "--format", "json")
        lines = json.loads(self.run(*arguments))["methods"]
        return {line["method"]: [line["auc"], line["found_at_10%"], line["found_at_20%"]] for line in lines}


def ascribe_rows(program, features, labels, true, flipped, seed):
    """What each part finds; the audit's own figures are measured again here."""
    with tempfile.TemporaryDirectory() as folder:
        store = Ascribe(program, folder, features, labels, true)
        alone = measure(store.scores("audit", "labels", "store", "--label", "label"), flipped)
        yield "ascribe, audit without a head", alone
        store.run("train-head", "store", "--label", "label", "--seed", str(seed))
        store.run("fit", "store")
        own = measure(store.scores("audit", "labels", "store", "--label", "label"), flipped)
        printed = store.methods()
        # Scores are written in single precision: a tie or two may differ.
        if max(abs(left - right) for left, right in zip(own, printed["audit"])) > 0.01:
            sys.exit(f"ascribe prints {printed['audit']} where its scores give {own}")
        for name, figures in printed.items():
            yield f"ascribe, {name}", figures


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ascribe", required=True, help="the binary")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--flipped", type=float, default=0.1, help="share of wrong labels")
    parser.add_argument("--json", action="store_true", help="the table as JSON, seed by seed")
    given = parser.parse_args()
    features, true = load_digits(return_X_y=True)
    features = features / 16.0
    figures, seconds = {}, {"ascribe": 0.0, "cleanlab": 0.0}
    for seed in range(given.seeds):
        labels = flip(true, given.flipped, seed)
        flipped = labels != true
        begun = time.perf_counter()
        for name, found in ascribe_rows(given.ascribe, features, labels, true, flipped, seed):
            figures.setdefault(name, []).append(found)
        seconds["ascribe"] += time.perf_counter() - begun
        begun = time.perf_counter()
        for name, scores in cleanlab_scores(features, labels, seed):
            figures.setdefault(name, []).append(measure(scores, flipped))
        seconds["cleanlab"] += time.perf_counter() - begun
    if given.json:
        print(json.dumps({"rows": len(true), "flipped": given.flipped, "figures": figures, "seconds": seconds}))
        return
    print(f"digits, {len(true)} rows, {round(given.flipped * len(true))} wrong labels, {given.seeds} seeds;", end=" ")
    print(f"cleanlab {cleanlab.__version__}, scikit-learn {sklearn.__version__}; means over the seeds")
    print(f"{'':52}{'AUC':>8}{'least':>8}{'at 10%':>8}{'at 20%':>8}")
    for name, rows in sorted(figures.items(), key=lambda item: -numpy.mean(item[1], axis=0)[0]):
        auc, tenth, fifth = numpy.mean(rows, axis=0)
        print(f"{name:52}{auc:8.4f}{min(row[0] for row in rows):8.4f}{tenth:8.3f}{fifth:8.3f}")
    print(", ".join(f"{name} {value:.0f} s" for name, value in seconds.items()))


if __name__ == "__main__":
    main()
