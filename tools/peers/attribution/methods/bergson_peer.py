"""bergson: products of its gradients, and its autocorrelation preconditioner (TrackStar) over projected ones."""

import types

import numpy
import torch
from torch.nn import functional

from networks import Perceptron, TextClassifier, linear_names, margins

from .base import Method

BATCH = 256


class Sequences:
    """Its hooks know layers with inputs [rows, tokens, width] only."""

    def __init__(self, network):
        self.network = network
        network.device = next(network.parameters()).device
        if isinstance(network, TextClassifier):
            network.classify = types.MethodType(lambda self, pooled: self.head(pooled[:, None])[:, 0], network)

    def logits(self, x):
        if isinstance(self.network, Perceptron):
            return self.network(x[:, None])[:, 0]
        return self.network(x)


class Bergson(Method):
    rereads_training_set = False

    def __init__(self, dimension, has_preconditioner, is_cosine=False):
        words = [f"projected to {dimension} x {dimension} a layer" if dimension else "unprojected"]
        words += ["preconditioned (damping 0.1)"] * has_preconditioner + ["cosine (TrackStar)"] * is_cosine
        name = f"bergson-{dimension or 'whole'}" + "-inverse" * has_preconditioner + "-cosine" * is_cosine
        super().__init__(name, "bergson, " + ", ".join(words), "bergson")
        self.dimension, self.has_preconditioner, self.is_cosine = dimension, has_preconditioner, is_cosine

    def gradients(self, sequences, x, measure):
        """float32 [rows, values] as its hooks collect them, layer after layer."""
        from bergson import GradientProcessor, InMemoryCollector, IndexConfig
        from datasets import Dataset

        names = linear_names(sequences.network)
        collector = InMemoryCollector(
            model=sequences.network,
            data=Dataset.from_dict({"input_ids": [[0]] * len(x)}),
            cfg=IndexConfig(run_path="unused"),
            processor=GradientProcessor(projection_dim=self.dimension, include_bias=not self.dimension),
            target_modules=set(names),
        )
        with collector:
            for rows in torch.arange(len(x)).split(BATCH):
                losses = measure(sequences.logits(x[rows]), rows)
                losses.sum().backward()
                collector.process_batch(rows.tolist(), losses=losses.detach())
                sequences.network.zero_grad()
        collector.teardown()
        return [collector.gradients[name].float() for name in names]

    def fit(self, network, task, parameters):
        from bergson.hessians.inversion import invert_psd_matrix

        sequences = Sequences(network)
        measure = lambda logits, rows: functional.cross_entropy(logits, task.y[rows], reduction="none")  # noqa: E731
        layers = self.gradients(sequences, task.x, measure)
        inverses = None
        if self.has_preconditioner:
            # Both sides are normalised with TrackStar: each gets the root of the inverse.
            power = -0.5 if self.is_cosine else -1.0
            inverses = [invert_psd_matrix(layer.T @ layer / len(layer), power=power).float() for layer in layers]
            if self.is_cosine:
                layers = [layer @ inverse for layer, inverse in zip(layers, inverses)]
        rows = torch.cat(layers, dim=1)
        if self.is_cosine:
            rows = functional.normalize(rows, dim=1)
        return sequences, rows, inverses

    def score(self, fitted, x, y):
        sequences, rows, inverses = fitted
        layers = self.gradients(sequences, x, lambda logits, chosen: -margins(logits, y[chosen]))
        if inverses is not None:
            layers = [layer @ inverse for layer, inverse in zip(layers, inverses)]
        queries = torch.cat(layers, dim=1)
        if self.is_cosine:
            queries = functional.normalize(queries, dim=1)
        return (queries @ rows.T).numpy()

    def self_influence(self, fitted, task):
        return numpy.square(fitted[1].numpy().astype(numpy.float64)).sum(axis=1)

    def bytes_a_row(self, fitted, task):
        return 10 * 4.0 * fitted[1].shape[1]


def methods():
    yield Bergson(None, False)
    yield Bergson(16, True)
    yield Bergson(16, True, is_cosine=True)
    yield Bergson(32, True)
