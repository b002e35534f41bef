"""Makes tests/fixtures/attribution: sketches of a small classifier, and the scores that other tools give its rows.

A perceptron (12-8-4, ReLU, biases) is trained on 40 made-up rows. `train.safetensors` and `queries.safetensors` are
written by the collector in tools/torch: factored, float32, gradients of the summed cross-entropy at the end of
training, with `own`, and for the training rows the trajectory. `expected.json` holds the plain products of gradients,
[queries][rows], as found by kronfluence (strategy "identity"), by bergson (unprojected gradients, biases included) and
by plain backward passes in double precision, and the scores of kronfluence with K-FAC and EK-FAC at its own damping (a
tenth of each module's mean eigenvalue). All see the model and the data, not the sketches. `factors.safetensors` holds the
factors A and B that kronfluence fitted, as the collector writes them; `trak.safetensors` and `trak_queries.safetensors`
the projected gradients of traker, whose scores stand beside the others.

    python -m pip install --requirement tools/reference/attribution_peers_requirements.txt
    python tools/reference/attribution_peers.py tests/fixtures/attribution
"""

import contextlib
import copy
import importlib.metadata
import json
import logging
import os
import pathlib
import sys
import tempfile

# Nothing here comes from a hub; libraries that look for one would wait for it.
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", CUDA_VISIBLE_DEVICES="")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "torch"))
from ascribe_collect import Collector, TrajectoryLog, own_label_probability  # noqa: E402

SEED = 20261130
ROWS, QUERIES = 40, 6
INPUTS, HIDDEN, CLASSES = 12, 8, 4
EPOCHS, BATCH, LEARNING_RATE = 6, 8, 0.03
TOLERANCE = 1e-4
TRAK_VALUES = 16
LAYERS = ("0", "2")


class Perceptron(nn.Sequential):
    """`device` and inputs with tokens are for bergson, which knows models of sequences only."""

    def __init__(self):
        super().__init__(nn.Linear(INPUTS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))

    @property
    def device(self):
        return self[0].weight.device


def make_data():
    """Four clouds that overlap, so that no row ends fitted to more than a few digits.

    The tools differentiate cross-entropy as it stands, in single precision: where 1 - p is below about 1e-4 the
    gradients that they find have lost the fourth digit, and the comparison would measure that.
    """
    numbers = np.random.default_rng(SEED)
    centres = numbers.standard_normal((CLASSES, INPUTS))
    labels = np.arange(ROWS + QUERIES) % CLASSES
    inputs = centres[labels] + 2.0 * numbers.standard_normal((ROWS + QUERIES, INPUTS))
    x, y = torch.tensor(inputs, dtype=torch.float32), torch.tensor(labels)
    return (x[:ROWS], y[:ROWS]), (x[ROWS:], y[ROWS:])


def train(model, x, y):
    log, optimiser = TrajectoryLog(ROWS), torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=0.9)
    for _ in range(EPOCHS):
        for rows in torch.randperm(ROWS).split(BATCH):
            logits = model(x[rows])
            log.record(rows, own_label_probability(logits, y[rows]))
            optimiser.zero_grad()
            F.cross_entropy(logits, y[rows]).backward()
            optimiser.step()
        log.end_epoch(LEARNING_RATE)
    return log


def collect(model, path, x, y, letter, log=None):
    metadata = [{"label": int(label)} for label in y]
    with Collector(model, path) as collector:
        collector.member(run=0, epoch=EPOCHS)
        for rows in torch.arange(len(x)).split(16):
            collector.add_classified(y[rows], lambda model, rows=rows: model(x[rows]))
        print(collector.finish([f"{letter}{row}" for row in range(len(x))], metadata, log))


def double_scores(model, rows, queries):
    """The same from one backward pass a row in double precision, without any tool."""
    model = copy.deepcopy(model).double()

    def gradients(x, y):
        flat = []
        for row in range(len(x)):
            loss = F.cross_entropy(model(x[row : row + 1].double()), y[row : row + 1])
            flat.append(torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(model.parameters()))]))
        return torch.stack(flat)

    return (gradients(*queries) @ gradients(*rows).T).numpy()


def sketch_scores(folder):
    """[queries, rows] from the files alone, in double precision."""
    train_rows, queries = (load_file(folder / f"{name}.safetensors") for name in ("train", "queries"))
    total = np.zeros((QUERIES, ROWS))
    for layer in LAYERS:
        u, v, query_u, query_v = (
            tensors[f"m0.{layer}.{side}"][:, 0].astype(np.float64) for tensors in (train_rows, queries) for side in "uv"
        )
        total += (query_u @ u.T) * (query_v @ v.T)
    return total


def kronfluence_fit(model, rows, queries, strategy, damping):
    """Scores [queries, rows], and the factors of each layer: A over inputs and B over outputs."""
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments, ScoreArguments
    from kronfluence.task import Task

    class Classify(Task):
        def compute_train_loss(self, batch, model, sample=False):
            assert not sample
            return F.cross_entropy(model(batch[0]), batch[1], reduction="sum")

        def compute_measurement(self, batch, model):
            return F.cross_entropy(model(batch[0]), batch[1], reduction="sum")

    task = Classify()
    with tempfile.TemporaryDirectory() as folder:
        quiet = {"disable_tqdm": True, "log_level": logging.WARNING}
        analyzer = Analyzer("fixture", prepare_model(model, task), task, cpu=True, output_dir=folder, **quiet)
        analyzer.fit_all_factors(
            strategy,
            dataset=TensorDataset(*rows),
            per_device_batch_size=16,
            factor_args=FactorArguments(strategy=strategy, use_empirical_fisher=True),
        )
        analyzer.compute_pairwise_scores(
            "scores",
            factors_name=strategy,
            query_dataset=TensorDataset(*queries),
            train_dataset=TensorDataset(*rows),
            per_device_query_batch_size=QUERIES,
            per_device_train_batch_size=16,
            score_args=ScoreArguments(damping_factor=damping),
        )
        scores = analyzer.load_pairwise_scores("scores")["all_modules"].numpy()
        factors = {}
        if strategy != "identity":
            found = analyzer.load_covariance_matrices(strategy)
            for layer in LAYERS:
                factors[layer] = tuple(
                    (found[f"{side}_covariance"][layer] / found[f"num_{side}_covariance_processed"][layer])
                    .numpy()
                    .astype(np.float32)
                    for side in ("activation", "gradient")
                )
    return scores, factors


def kronfluence_scores(model, rows, queries):
    return kronfluence_fit(model, rows, queries, "identity", 0.0)[0]


def kronecker_scores(folder, factors, is_measured):
    """[queries, rows] of K-FAC, or of EK-FAC with measured eigenvalues, from sketches and factors in double precision."""
    train_rows, queries = (load_file(folder / f"{name}.safetensors") for name in ("train", "queries"))
    total = np.zeros((QUERIES, ROWS))
    for layer in LAYERS:
        inputs, outputs = (np.linalg.eigh(factor.astype(np.float64)) for factor in factors[layer])
        turned = [
            np.einsum(
                "no,ni->noi",
                tensors[f"m0.{layer}.u"][:, 0].astype(np.float64) @ outputs[1],
                tensors[f"m0.{layer}.v"][:, 0].astype(np.float64) @ inputs[1],
            )
            for tensors in (train_rows, queries)
        ]
        eigenvalues = np.outer(outputs[0], inputs[0]).clip(0.0)
        if is_measured:
            eigenvalues = (turned[0] ** 2).mean(0)
        divided = turned[1] / (eigenvalues + 0.1 * eigenvalues.mean())
        total += np.einsum("qoi,noi->qn", divided, turned[0])
    return total


def write_dense(path, gradients, more, loss):
    """A sketch file of one module with the gradients [rows, 1, values]."""
    module = {"name": "gradients", "out": 1, "in": gradients.shape[1], "encoding": "dense", "projection": None}
    schema = {
        "members": 1,
        "checkpoints": [{"run": 0, "epoch": EPOCHS}],
        "loss": loss,
        "labels": "true",
        "modules": [module],
    }
    tensors = {"m0.gradients.g": np.ascontiguousarray(gradients[:, None].astype(np.float32)), **more}
    save_file(tensors, path, metadata={"ascribe.sketch": "1", "schema": json.dumps(schema)})


def traker_scores(model, rows, queries, out):
    """[queries, rows] of traker without regularisation; its gradients become sketch files."""
    from trak import TRAKer
    from trak.projectors import BasicProjector, ProjectionType

    parameters = sum(part.numel() for part in model.parameters())

    def open_folder(folder):
        # A projector gives its matrix away with the features: the targets need another one of the same seed.
        rademacher = {"seed": 0, "proj_type": ProjectionType.rademacher, "device": "cpu", "block_size": TRAK_VALUES}
        traker = TRAKer(
            model=model,
            task="image_classification",
            train_set_size=ROWS,
            save_dir=folder,
            device="cpu",
            projector=BasicProjector(parameters, TRAK_VALUES, **rademacher),
            proj_dim=TRAK_VALUES,
            logging_level=logging.WARNING,
            use_half_precision=False,
            lambda_reg=0.0,
        )
        return traker

    with tempfile.TemporaryDirectory() as folder:
        traker = open_folder(folder)
        traker.load_checkpoint(model.state_dict(), model_id=0)
        traker.featurize(rows, num_samples=ROWS)
        traker.finalize_features()
        traker = open_folder(folder)
        traker.start_scoring_checkpoint("queries", model.state_dict(), 0, QUERIES)
        traker.score(queries, num_samples=QUERIES)
        scores = np.array(traker.finalize_scores("queries")).T
        read = lambda name: np.array(np.load(pathlib.Path(folder) / "0" / name))
        gradients, own = read("grads.mmap"), read("out_to_loss.mmap")[:, 0]
        targets = read("queries_grads.mmap")
    # Theirs are gradients of the margin, of which a loss has -(1 - p) times that.
    beside = {"m0.own": own.astype(np.float32)}
    write_dense(out / "trak.safetensors", -own[:, None] * gradients, beside, "cross-entropy, summed")
    write_dense(out / "trak_queries.safetensors", -targets, {}, "margin, negated")
    # The formula of the paper, on the files' own values.
    features = gradients.astype(np.float64)
    solved = np.linalg.solve(features.T @ features, targets.T.astype(np.float64)).T
    exact = (solved @ features.T) * own.astype(np.float64)
    correlation = min(np.corrcoef(exact[query], scores[query])[0, 1] for query in range(QUERIES))
    print(f"traker: least correlation of a query with the formula {correlation:.9f}")
    if not correlation > 1 - 1e-6:
        sys.exit("traker and its formula disagree")
    return scores


def write_factors(folder, factors):
    with safe_open(folder / "train.safetensors", framework="numpy") as file:
        schema = file.metadata()["schema"]
    tensors = {}
    for layer, (inputs, outputs) in factors.items():
        tensors |= {f"m0.{layer}.A": inputs, f"m0.{layer}.B": outputs}
    save_file(tensors, folder / "factors.safetensors", metadata={"ascribe.sketch": "1", "schema": schema})


def compare(name, scores, ours):
    error = np.abs(scores - ours).max() / np.abs(ours).max()
    worst = (np.abs(scores - ours) / np.maximum(np.abs(ours), 1e-3 * np.abs(ours).max())).max()
    print(f"{name}: differs by {error:.2g} of the largest score, by {worst:.2g} of a score")
    if not worst < TOLERANCE:
        sys.exit(f"{name} and the sketches disagree")


def bergson_gradients(model, x, y):
    """[rows, parameters] as bergson's hooks collect them, layer after layer."""
    from bergson import GradientProcessor, InMemoryCollector, IndexConfig
    from datasets import Dataset

    collector = InMemoryCollector(
        model=model,
        data=Dataset.from_dict({"input_ids": [[0]] * len(x)}),
        cfg=IndexConfig(run_path="unused"),
        processor=GradientProcessor(projection_dim=None, include_bias=True),
    )
    with collector:
        losses = F.cross_entropy(model(x[:, None])[:, 0], y, reduction="none")
        losses.sum().backward()
        collector.process_batch(list(range(len(x))), losses=losses)
    collector.teardown()
    model.zero_grad()
    return np.concatenate([collector.gradients[layer].float().numpy() for layer in LAYERS], axis=1)


def bergson_scores(model, rows, queries):
    gradients, query_gradients = bergson_gradients(model, *rows), bergson_gradients(model, *queries)
    return query_gradients.astype(np.float64) @ gradients.astype(np.float64).T


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    rows, queries = make_data()
    model = Perceptron()
    log = train(model, *rows)
    collect(model, folder / "train.safetensors", *rows, "r", log)
    collect(model, folder / "queries.safetensors", *queries, "q")
    own = load_file(folder / "train.safetensors")["m0.own"]
    print(f"own of the training rows: {own.min():.3g} to {own.max():.3g}, median {np.median(own):.3g}")

    ours = sketch_scores(folder)
    tools = {}
    # kronfluence wraps the layers of the model that it is given.
    sources = {"autograd": double_scores, "bergson": bergson_scores, "kronfluence": kronfluence_scores}
    for name, scores_of in sources.items():
        with contextlib.redirect_stdout(sys.stderr):
            scores = scores_of(copy.deepcopy(model), rows, queries)
        compare(name, scores, ours)
        tools[name] = {
            "version": importlib.metadata.version("torch" if name == "autograd" else name),
            "precision": str(scores.dtype),
            "scores": [[float(score) for score in query] for query in scores],
        }
    for strategy in ("kfac", "ekfac"):
        with contextlib.redirect_stdout(sys.stderr):
            scores, factors = kronfluence_fit(copy.deepcopy(model), rows, queries, strategy, None)
        compare(strategy, scores, kronecker_scores(folder, factors, strategy == "ekfac"))
        tools["kronfluence"][strategy] = [[float(score) for score in query] for query in scores]
        if strategy == "kfac":
            write_factors(folder, factors)
    with contextlib.redirect_stdout(sys.stderr):
        scores = traker_scores(copy.deepcopy(model), rows, queries, folder)
    tools["traker"] = {
        "version": importlib.metadata.version("traker"),
        "scale": "its own; each query's scores are comparable with each other",
        "scores": [[float(score) for score in query] for query in scores],
    }
    expected = {
        "about": "products of unprojected loss gradients, [queries][rows], from tools/reference/attribution_peers.py",
        "sign": "positive: training on the row lowers the query's loss (a proponent)",
        "scale": "losses summed, neither divided by the number of rows nor damped",
        "made_with": {name: importlib.metadata.version(name) for name in ("torch", "numpy")},
        **tools,
    }
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
