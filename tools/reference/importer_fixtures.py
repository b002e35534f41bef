"""Makes tests/fixtures/importers: folders as other attribution tools write them, and the numbers that must come out.

One perceptron (6-5-3, ReLU, biases) with made-up rows goes through the real tools: bergson 2.5.1 (gradient collector and
run configuration), TRAK 0.3.2 (two checkpoints, one experiment), LogIX at commit f576318 (gradient logs in two chunks,
and of low-rank modules) and kronfluence 1.0.1 (factors and pairwise scores). `expected.json` beside them has products of
gradients from backward passes in double precision and from the tools themselves.

LogIX has no file on a package index: give the folder of its public source (github.com/logix-project/logix, commit
f576318d16818cd83de642ac29fbbab20d873368). Nothing of it is kept but the folders that it writes.

    python -m pip install --requirement tools/reference/importer_fixtures_requirements.txt
    python tools/reference/importer_fixtures.py tests/fixtures/importers LOGIX_SOURCE
"""

import copy
import importlib.metadata
import json
import logging
import os
import pathlib
import shutil
import sys

# Nothing here comes from a hub; libraries that look for one would wait for it.
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", CUDA_VISIBLE_DEVICES="")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

LOGIX_COMMIT = "f576318d16818cd83de642ac29fbbab20d873368"
SEED = 20261201
ROWS, QUERIES = 12, 3
INPUTS, HIDDEN, CLASSES = 6, 5, 3
PROJECTED = 4
TRAK_PROJECTED = 8
TOLERANCE = 2e-4
LAYERS = ("0", "2")


class Perceptron(nn.Sequential):
    """`device` and inputs with tokens are for bergson, which knows models of sequences only."""

    def __init__(self):
        super().__init__(nn.Linear(INPUTS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))

    @property
    def device(self):
        return self[0].weight.device


def make_data():
    numbers = np.random.default_rng(SEED)
    centres = numbers.standard_normal((CLASSES, INPUTS))
    labels = np.arange(ROWS + QUERIES) % CLASSES
    inputs = centres[labels] + 1.5 * numbers.standard_normal((ROWS + QUERIES, INPUTS))
    x, y = torch.tensor(inputs, dtype=torch.float32), torch.tensor(labels)
    return (x[:ROWS], y[:ROWS]), (x[ROWS:], y[ROWS:])


def train(model, x, y, steps):
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimiser.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimiser.step()


def margins(logits, y):
    own = F.one_hot(y, CLASSES).bool()
    return logits[own] - logits.masked_fill(own, -torch.inf).logsumexp(-1)


def gradients(model, x, y, output):
    """[rows, parameters] of `output(logits, labels)`, one backward pass a row in double precision."""
    model = copy.deepcopy(model).double()
    flat = []
    for row in range(len(x)):
        value = output(model(x[row : row + 1].double()), y[row : row + 1]).sum()
        flat.append(torch.cat([part.flatten() for part in torch.autograd.grad(value, list(model.parameters()))]))
    return torch.stack(flat).numpy()


def losses(logits, y):
    return F.cross_entropy(logits, y, reduction="none")


def weights_only(flat):
    """The columns of the weights, without biases."""
    first = INPUTS * HIDDEN
    return np.concatenate([flat[:, :first], flat[:, first + HIDDEN : first + HIDDEN + HIDDEN * CLASSES]], axis=1)


# bergson


def bergson_folder(model, x, y, projection, name, **preprocess):
    from bergson import GradientProcessor, IndexConfig
    from bergson.cli.commands import Build
    from bergson.collector.gradient_collectors import GradientCollector
    from bergson.config.config import PreprocessConfig
    from bergson.config.config_io import save_run_config
    from bergson.data import load_gradients
    from datasets import Dataset

    cfg = IndexConfig(run_path=name, model="perceptron", projection_dim=projection or 0, include_bias=True)
    preprocess_cfg = PreprocessConfig(**preprocess)
    save_run_config(Build(cfg, preprocess_cfg), cfg.partial_run_path)
    collector = GradientCollector(
        model=model,
        data=Dataset.from_dict({"input_ids": [[0]] * len(x), "length": [1] * len(x)}),
        cfg=cfg,
        preprocess_cfg=preprocess_cfg,
        processor=GradientProcessor(projection_dim=projection, include_bias=True),
    )
    x = x.to(next(model.parameters()).dtype)
    with collector:
        row_losses = losses(model(x[:, None])[:, 0].float(), y)
        row_losses.sum().backward()
        collector.process_batch(list(range(len(x))), losses=row_losses)
    collector.teardown()
    model.zero_grad()
    shutil.move(cfg.partial_run_path, name)
    return np.array(load_gradients(name)).astype(np.float64)


def make_bergson(model, rows, queries):
    os.makedirs("bergson", exist_ok=True)
    whole = bergson_folder(model, *rows, None, "bergson/whole")
    projected = bergson_folder(model, *rows, PROJECTED, "bergson/projected")
    asked = bergson_folder(model, *queries, PROJECTED, "bergson/queries")
    half = bergson_folder(copy.deepcopy(model).half(), *rows, None, "bergson/half")
    bergson_folder(model, *rows, PROJECTED, "bergson/normalised", unit_normalize=True)
    bergson_folder(model, *rows, PROJECTED, "bergson/sum", aggregation="sum")
    truth = gradients(model, *rows, losses)
    check("bergson", whole @ whole.T, truth @ truth.T)
    check("bergson in half precision", half @ half.T, truth @ truth.T, 5e-3)
    return {
        "whole": truth @ truth.T,
        "projected": projected @ projected.T,
        "projected_queries": asked @ projected.T,
    }


# TRAK


def trak_folder(checkpoints, rows, queries, name, **options):
    from trak import TRAKer

    def open_folder():
        return TRAKer(
            model=Perceptron(),
            task="image_classification",
            train_set_size=ROWS,
            save_dir=name,
            device="cpu",
            logging_level=logging.WARNING,
            **options,
        )

    traker = open_folder()
    for number, checkpoint in enumerate(checkpoints):
        traker.load_checkpoint(checkpoint.state_dict(), model_id=number)
        traker.featurize(rows, num_samples=ROWS)
    traker.finalize_features()
    # It frees its projection then, and makes a new one only for another checkpoint.
    traker = open_folder()
    for number, checkpoint in enumerate(checkpoints):
        traker.start_scoring_checkpoint("test", checkpoint.state_dict(), number, QUERIES)
        traker.score(queries, num_samples=QUERIES)
    scores = np.array(traker.finalize_scores("test")).astype(np.float64)
    # The path of the folder stands in it.
    path = pathlib.Path(name, "experiments.json")
    path.write_text(path.read_text().replace(str(pathlib.Path.cwd()) + "/", ""))
    return scores, traker.projector


def make_trak(checkpoints, rows, queries):
    from trak.projectors import NoOpProjector

    scores, projector = trak_folder(
        checkpoints, rows, queries, "trak/projected", proj_dim=TRAK_PROJECTED, use_half_precision=False, lambda_reg=1e-2
    )
    # Half precision draws another projection.
    _, half_projector = trak_folder(
        checkpoints[:1], rows, queries, "trak/half", proj_dim=TRAK_PROJECTED, lambda_reg=1e-2
    )
    trak_folder(
        checkpoints[:1], rows, queries, "trak/whole", projector=NoOpProjector(device="cpu"), use_half_precision=False
    )
    kernels, query_kernels = [], []
    parameters = sum(part.numel() for part in checkpoints[0].parameters())
    for number, model in enumerate(checkpoints):
        project = lambda flat: projector.project(torch.tensor(flat, dtype=torch.float32), number).double().numpy()
        # The loss's gradient is minus (1 - p) times the margin's; the scale makes the projection unbiased.
        scale = 1 / np.sqrt(TRAK_PROJECTED)
        mine = project(gradients(model, *rows, losses)) * scale
        asked = -project(gradients(model, *queries, margins)) * scale
        kernels.append(mine @ mine.T)
        query_kernels.append(asked @ mine.T)
    truth = gradients(checkpoints[0], *rows, losses)
    half = half_projector.project(torch.tensor(truth, dtype=torch.float16), 0).double().numpy()
    return {
        "parameters": parameters,
        "half": half @ half.T / TRAK_PROJECTED,
        "projected": np.stack(kernels),
        "projected_queries": np.stack(query_kernels),
        "whole": truth @ truth.T,
        "scores": scores.T,
    }


# LogIX


def logix_folder(model, rows, queries, name, letters, rank=None):
    from logix import LogIX
    from logix.config import LoggingConfig, LoRAConfig
    from logix.statistic import Covariance

    torch.manual_seed(SEED)
    model = copy.deepcopy(model)
    pathlib.Path("logix.yaml").write_text("root_dir: ./logix\n")
    log = LogIX(project=name, config="logix.yaml", logging_config=LoggingConfig(flush_threshold=200))
    log.watch(model)
    if rank:
        log.add_lora(lora_config=LoRAConfig(init="random", rank=rank))
    log.setup({"grad": ["log"], "forward": ["covariance"], "backward": ["covariance"]})
    log.save(True)
    # A loader that shuffles logs rows in another order than that of the data.
    for batch in torch.randperm(ROWS, generator=torch.Generator().manual_seed(1)).split(5):
        with log(data_id=[f"{letters}{row}" for row in batch.tolist()]):
            model.zero_grad()
            F.cross_entropy(model(rows[0][batch]), rows[1][batch], reduction="sum").backward()
    log.finalize()
    log.setup({"grad": ["log"]})
    log.eval()
    with log(data_id=[f"q{row}" for row in range(QUERIES)]):
        model.zero_grad()
        F.cross_entropy(model(queries[0]), queries[1], reduction="sum").backward()
    result = log.compute_influence_all(log.get_log(copy=True), log.build_log_dataloader(), precondition=False)
    order = [result["tgt_ids"].index(f"{letters}{row}") for row in range(ROWS)]
    pathlib.Path("logix.yaml").unlink()
    return result["influence"].numpy().astype(np.float64)[:, order]


def make_logix(model, rows, queries):
    scores = logix_folder(model, rows, queries, "whole", "r")
    logix_folder(model, rows, queries, "low-rank", "r", rank=2)
    truth, asked = (weights_only(gradients(model, *data, losses)) for data in (rows, queries))
    check("LogIX", scores, asked @ truth.T)
    return {"whole": truth @ truth.T, "whole_queries": asked @ truth.T}


# kronfluence


def make_kronfluence(model, rows, queries):
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments, ScoreArguments
    from kronfluence.task import Task

    class Classify(Task):
        def compute_train_loss(self, batch, model, sample=False):
            assert not sample
            return F.cross_entropy(model(batch[0]), batch[1], reduction="sum")

        def compute_measurement(self, batch, model):
            return F.cross_entropy(model(batch[0]), batch[1], reduction="sum")

    task, plain = Classify(), copy.deepcopy(model)
    quiet = {"disable_tqdm": True, "log_level": logging.WARNING}
    model = prepare_model(copy.deepcopy(model), task)
    analyzer = Analyzer("perceptron", model, task, cpu=True, output_dir="kronfluence", **quiet)
    data, asked = TensorDataset(*rows), TensorDataset(*queries)
    batches = {"per_device_query_batch_size": QUERIES, "per_device_train_batch_size": 5}
    for strategy in ("identity", "ekfac"):
        arguments = FactorArguments(strategy=strategy, use_empirical_fisher=True)
        analyzer.fit_all_factors(strategy, dataset=data, per_device_batch_size=5, factor_args=arguments)
        for suffix, by_module in (("", False), ("_modules", True)):
            analyzer.compute_pairwise_scores(
                strategy + suffix,
                factors_name=strategy,
                query_dataset=asked,
                train_dataset=data,
                score_args=ScoreArguments(damping_factor=1e-3, compute_per_module_scores=by_module),
                **batches,
            )
    pathlib.Path("kronfluence/perceptron/model.safetensors").unlink(missing_ok=True)
    truth, asked_truth = gradients(plain, *rows, losses), gradients(plain, *queries, losses)
    scores = analyzer.load_pairwise_scores("identity")["all_modules"].numpy().astype(np.float64)
    check("kronfluence", scores, asked_truth @ truth.T)
    ekfac = analyzer.load_pairwise_scores("ekfac")["all_modules"].numpy().astype(np.float64)
    return {"identity": asked_truth @ truth.T, "ekfac": ekfac, "factors": second_moments(plain, *rows)}


def second_moments(model, x, y):
    """E[a a^T] and E[d d^T] of every layer, in double precision, from the forward and backward pass alone."""
    model, x = copy.deepcopy(model).double(), x.double()
    hidden = model[0](x)
    hidden.retain_grad()
    active = torch.relu(hidden)
    logits = model[2](active)
    logits.retain_grad()
    F.cross_entropy(logits, y, reduction="sum").backward()
    found = {}
    for layer, inputs, outputs in (("0", x, hidden.grad), ("2", active, logits.grad)):
        inputs = torch.cat([inputs, torch.ones(len(x), 1)], dim=1).detach()
        found[layer] = {"A": inputs.T @ inputs / len(x), "B": outputs.T @ outputs / len(x)}
    return {layer: {side: matrix.numpy() for side, matrix in sides.items()} for layer, sides in found.items()}


def check(name, found, truth, tolerance=TOLERANCE):
    error = np.abs(found - truth).max() / np.abs(truth).max()
    print(f"{name}: differs by {error:.2g} of the largest product")
    if not error < tolerance:
        sys.exit(f"{name} does not find the products of the backward passes")


def plain(value):
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value


def main():
    folder = pathlib.Path(sys.argv[1])
    sys.path.insert(0, str(pathlib.Path(sys.argv[2]).resolve()))
    for old in ("bergson", "trak", "logix", "kronfluence"):
        shutil.rmtree(folder / old, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    # Some tools write the path of their folder: a relative one says nothing about the machine.
    os.chdir(folder)
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    rows, queries = make_data()
    early, model = Perceptron(), Perceptron()
    train(model, *rows, 10)
    early.load_state_dict(model.state_dict())
    train(model, *rows, 30)
    expected = {
        "about": "products of loss gradients, [rows or queries][rows], from tools/reference/importer_fixtures.py",
        "sign": "positive: training on the row lowers the query's loss (a proponent)",
        "made_with": {
            **{name: importlib.metadata.version(name) for name in ("torch", "bergson", "traker", "kronfluence")},
            "logix": LOGIX_COMMIT,
        },
        "bergson": make_bergson(model, rows, queries),
        "trak": make_trak([model, early], rows, queries),
        "logix": make_logix(model, rows, queries),
        "kronfluence": make_kronfluence(model, rows, queries),
    }
    pathlib.Path("expected.json").write_text(json.dumps(plain(expected)) + "\n")
    keys = "".join(json.dumps({"key": f"r{row}", "label": int(label)}) + "\n" for row, label in enumerate(rows[1]))
    pathlib.Path("rows.keys.jsonl").write_text(keys)


if __name__ == "__main__":
    main()
