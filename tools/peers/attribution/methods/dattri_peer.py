"""dattri: TracIn, TRAK, EK-FAC, DataInf, Arnoldi and LoGra."""

import shutil
import tempfile
import weakref

import numpy
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from networks import linear_names, margins

from .base import Method, copied

BATCH = 256
# Queries that DataInf takes together.
SMALL_BATCH = 20


def loader(x, y, batch=BATCH):
    return DataLoader(TensorDataset(x, y), batch_size=batch, shuffle=False)


class Dattri(Method):
    """One of its attributors on one checkpoint; scores there are [rows, queries]."""

    takes_table = True

    def __init__(self, kind, title, **given):
        super().__init__(f"dattri-{kind}", f"dattri, {title}", "dattri")
        self.given = given

    def settings(self):
        return {**super().settings(), **self.given}

    def task(self, network, states):
        from dattri.task import AttributionTask

        def batched(data):
            # One example alone under vmap, a batch elsewhere.
            x, label = data
            is_one = label.dim() == 0
            return (x[None], label[None]) if is_one else (x, label)

        def loss(weights, data):
            x, label = batched(data)
            return functional.cross_entropy(torch.func.functional_call(network, weights, (x,)), label)

        def target(weights, data):
            x, label = batched(data)
            return -margins(torch.func.functional_call(network, weights, (x,)), label).sum()

        return AttributionTask(loss_func=loss, target_func=target, model=network, checkpoints=states)

    def fit(self, network, task, parameters):
        network = copied(network)
        state = {name: value.clone() for name, value in network.state_dict().items()}
        return self.fit_states(network, [state], task, parameters)

    def fit_states(self, network, states, task, parameters):
        attributor = self.attributor(self.task(network, states), network, parameters)
        rows = loader(task.x, task.y, self.given.get("batch", BATCH))
        return attributor, self.cache(attributor, rows), rows

    def cache(self, attributor, rows):
        attributor.cache(rows)
        return True

    def score(self, fitted, x, y):
        attributor, is_cached, rows = fitted
        queries = loader(x, y, self.given.get("batch", BATCH))
        with torch.no_grad():
            scores = attributor.attribute(train_dataloader=rows, test_dataloader=queries)
        return scores.detach().numpy().T


class TracIn(Dattri):
    def __init__(self, kind, title, is_cosine):
        super().__init__(kind, title)
        self.is_cosine = is_cosine

    def attributor(self, task, network, parameters):
        from dattri.algorithm import TracInAttributor

        weights = torch.ones(len(task.get_checkpoints()))
        made = TracInAttributor(task, weights, normalized_grad=self.is_cosine, layer_name=parameters)
        # Without an argument it projects to 512 values.
        made.projector_kwargs = None
        return made

    def cache(self, attributor, rows):
        return False


class Trak(Dattri):
    rereads_training_set = False

    def __init__(self, dimension, ridge):
        regularised = f"ridge {ridge:g} x mean eigenvalue" if ridge else "no ridge (default)"
        super().__init__(f"trak-{dimension}-{ridge:g}", f"TRAK, {dimension} values, {regularised}")
        self.dimension, self.ridge = dimension, ridge

    def task(self, network, states):
        from dattri.task import AttributionTask

        def margin(weights, data):
            x, label = data
            return margins(torch.func.functional_call(network, weights, (x[None],)), label[None]).sum()

        return AttributionTask(loss_func=margin, model=network, checkpoints=states)

    def attributor(self, task, network, parameters):
        from dattri.algorithm import TRAKAttributor

        def probability(weights, data):
            x, label = data
            logits = torch.func.functional_call(network, weights, (x[None],))
            return torch.softmax(logits, dim=1)[0].gather(0, label[None])[0]

        projector = {"proj_dim": self.dimension, "proj_max_batch_size": 32, "device": "cpu", "proj_seed": 0}
        return TRAKAttributor(task, probability, projector, layer_name=parameters)

    def cache(self, attributor, rows):
        attributor.cache(rows)
        return True

    def score(self, fitted, x, y):
        with torch.no_grad():
            return fitted[0].attribute(test_dataloader=loader(x, y)).detach().numpy().T

    def bytes_a_row(self, fitted, task):
        return 10 * 4.0 * (self.dimension + 1)


class Ekfac(Dattri):
    takes_table = False

    def attributor(self, task, network, parameters):
        from dattri.algorithm import IFAttributorEKFAC

        return IFAttributorEKFAC(task, module_name=linear_names(network))

    def cache(self, attributor, rows):
        # It estimates the curvature of the target, where the loss's is meant.
        target, attributor.task.target_func = attributor.task.target_func, attributor.task.loss_func
        attributor.cache(rows)
        attributor.task.target_func = target
        # Gradients of the mean over a batch were squared: the same factor for all, and so is the damping.
        values = torch.cat([value.flatten() for value in attributor.cached_lambdas.values()])
        attributor.damping = self.given["damping"] * float(values.mean())
        return True

    def score(self, fitted, x, y):
        attributor, _, rows = fitted
        return attributor.attribute(train_dataloader=rows, test_dataloader=loader(x, y)).detach().numpy().T


class DataInf(Dattri):
    takes_table = True

    def attributor(self, task, network, parameters):
        from dattri.algorithm import IFAttributorDataInf

        return IFAttributorDataInf(task, layer_name=parameters, regularization=self.given["regularization"])

    def score(self, fitted, x, y):
        # It transforms the queries anew for each batch of rows: all rows are one. Of queries it holds [batch, batch, weights].
        attributor, _, rows = fitted
        all_rows = loader(*rows.dataset.tensors, len(rows.dataset))
        with torch.no_grad():
            scores = attributor.attribute(train_dataloader=all_rows, test_dataloader=loader(x, y, SMALL_BATCH))
        return scores.numpy().T


class Arnoldi(Dattri):
    def attributor(self, task, network, parameters):
        from dattri.algorithm import IFAttributorArnoldi

        # Of more directions it keeps some whose eigenvalues are below 0, and takes their roots.
        return IFAttributorArnoldi(task, layer_name=parameters, proj_dim=self.given["directions"], max_iter=100)


class Batched(nn.Module):
    """A row alone is a batch of one: LoGra looks at the shapes of a network by a row without a batch."""

    def __init__(self, network, row_dimensions):
        super().__init__()
        self.network, self.row_dimensions = network, row_dimensions

    def forward(self, x):
        return self.network(x[None] if x.dim() == self.row_dimensions else x)


class LoGra(Dattri):
    takes_table = False
    rereads_training_set = False

    def fit(self, network, task, parameters):
        from dattri.algorithm import LoGraAttributor
        from dattri.task import AttributionTask

        model = Batched(copied(network), task.x.dim() - 1)

        def loss(model, batch, device):
            return functional.cross_entropy(model(batch[0]), batch[1])

        states = [{name: value.clone() for name, value in model.state_dict().items()}]
        # It writes down what its batches are, by default in the working directory.
        folder = tempfile.mkdtemp(prefix="dattri-")
        attributor = LoGraAttributor(
            AttributionTask(loss_func=loss, model=model, checkpoints=states), layer_names=linear_names(model),
            proj_dim=self.given["values"], damping=self.given["damping"], cache_dir=folder,
        )
        # One batch: it takes means over batches, of whatever size.
        rows = loader(task.x, task.y, len(task.x))
        attributor.cache(rows)
        weakref.finalize(attributor, shutil.rmtree, folder, True)
        return attributor, True, rows

    def score(self, fitted, x, y):
        # Gradients of queries are those of their loss: it knows no other measurement.
        attributor, _, rows = fitted
        scores = attributor.attribute(train_dataloader=rows, test_dataloader=loader(x, y, len(x)))
        return numpy.asarray(scores.detach()).T

    def bytes_a_row(self, fitted, task):
        return 10 * 4.0 * self.given["values"] * len(linear_names(task.network()))


def methods():
    yield TracIn("tracin", "TracIn (gradient product)", False)
    yield TracIn("tracin-cosine", "TracIn, cosine", True)
    yield Trak(512, 0)
    yield Ekfac("ekfac-default", "EK-FAC, near-zero damping", damping=1e-8)
    yield Ekfac("ekfac-heuristic", "EK-FAC, damping 0.1 x mean", damping=0.1)
    yield DataInf("datainf", "DataInf", regularization=0.1)
    yield Arnoldi("arnoldi", "Arnoldi, 20 directions", directions=20)
    yield LoGra("logra", "LoGra, 1,024 values a layer, damping 0.01", values=1024, damping=0.01)
