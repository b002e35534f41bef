"""Small models, and per-example gradients the slow way, for the tests."""

import torch
from torch import nn
from torch.nn import functional as F

from ascribe_collect.kinds import as_matrix


def sum_of_cross_entropy(labels, forward):
    """A loss for `Collector.add`: one value a row."""
    return lambda model: F.cross_entropy(forward(model), labels, reduction="none")


def perceptron(*widths, bias=True):
    """Linear layers with a ReLU in place between them."""
    layers = []
    for width, following in zip(widths, widths[1:]):
        layers += [nn.Linear(width, following, bias=bias), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])


def weight_gradients(layers, loss):
    """One backward pass for one row's loss: for each layer [out, in (+ 1)], the bias's gradient as the last column.

    An nn.Embedding is one of them as [width, vocabulary].
    """
    parameters = [parameter for layer in layers for parameter in layer.parameters() if parameter.requires_grad]
    values = torch.autograd.grad(loss, parameters, allow_unused=True)
    found = {
        id(parameter): torch.zeros_like(parameter) if value is None else value
        for parameter, value in zip(parameters, values)
    }
    gradients = []
    for layer in layers:
        gradient = as_matrix(layer, found[id(layer.weight)])
        if isinstance(layer, nn.Embedding):
            gradients.append(gradient.double())
            continue
        if layer.bias is not None and layer.bias.requires_grad:
            gradient = torch.cat([gradient, found[id(layer.bias)][:, None]], dim=1)
        gradients.append(gradient.double())
    return gradients


def inner_products(rows):
    """[n, n] from a list of n lists of gradients."""
    flat = torch.stack([torch.cat([gradient.flatten() for gradient in row]) for row in rows])
    return (flat @ flat.T).numpy()


class Attention(nn.Module):
    """One head. nn.MultiheadAttention would call its projections as functions, out of sight of hooks."""

    def __init__(self, width):
        super().__init__()
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x, hidden):
        """`hidden` [rows, tokens or 1, tokens]: what a token must not see."""
        scores = self.query(x) @ self.key(x).transpose(1, 2) / x.shape[-1] ** 0.5
        scores = scores.masked_fill(hidden, -torch.inf)
        return self.out(torch.softmax(scores, dim=-1) @ self.value(x))


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.attention = Attention(width)
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x, hidden):
        x = x + self.attention(self.norm(x), hidden)
        return x + self.down(F.gelu(self.up(x)))


class Transformer(nn.Module):
    """Token numbers [rows, tokens] (0 pads) to logits, from the mean over tokens that are no padding."""

    def __init__(self, vocabulary=20, width=8, classes=3, blocks=2):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=0)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.head = nn.Linear(width, classes)

    def forward(self, tokens):
        padding = tokens == 0
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, padding[:, None, :])
        kept = (~padding)[:, :, None].to(x.dtype)
        return self.head((x * kept).sum(1) / kept.sum(1))


class LanguageModel(nn.Module):
    """Two blocks that look back only. Token numbers [rows, tokens] to logits [rows, tokens, vocabulary].

    `segments` [rows, tokens]: examples packed into one row, negative for padding; tokens see their own example, and
    positions start at 0 in each. Without it positions are the same for all rows.
    """

    def __init__(self, vocabulary=13, width=8, places=12, tied=True, blocks=2):
        super().__init__()
        self.words, self.places = nn.Embedding(vocabulary, width), nn.Embedding(places, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        if tied:
            self.head.weight = self.words.weight

    def forward(self, tokens, segments=None, apart=True):
        length = tokens.shape[1]
        place = torch.arange(length)
        hidden = place[None, :] > place[:, None]
        hidden = hidden[None]
        if segments is not None:
            same = segments[:, :, None] == segments[:, None, :]
            place = ((place[:, None] > place[None, :]) & same).sum(2)
            if apart:
                hidden = hidden | ~same
        x = self.words(tokens) + self.places(place)
        for block in self.blocks:
            x = block(x, hidden)
        return self.head(self.norm(x))
