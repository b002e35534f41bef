"""The networks that are attributed, and what is measured of them."""

import math

import torch
from torch import nn
from torch.nn import functional

PADDING = 0
UNKNOWN = 1


class Perceptron(nn.Sequential):
    """inputs -> hidden, ReLU -> classes."""

    def __init__(self, inputs, hidden, classes):
        super().__init__(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, classes))


class Block(nn.Module):
    """Attention and a feed-forward part, each behind its own norm. All projections are nn.Linear, so that hooks see them."""

    def __init__(self, width, heads, wide):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.wide_norm = nn.LayerNorm(width)
        self.rise, self.fall = nn.Linear(width, wide), nn.Linear(wide, width)

    def forward(self, x, is_word):
        rows, tokens, width = x.shape
        normed = self.norm(x)
        split = lambda side: side(normed).view(rows, tokens, self.heads, -1).transpose(1, 2)  # noqa: E731
        query, key, value = split(self.query), split(self.key), split(self.value)
        weights = query @ key.transpose(2, 3) / math.sqrt(width // self.heads)
        weights = torch.softmax(weights.masked_fill(~is_word[:, None, None, :], -1e9), dim=3)
        x = x + self.out((weights @ value).transpose(1, 2).reshape(rows, tokens, width))
        return x + self.fall(functional.relu(self.rise(self.wide_norm(x))))


class TextClassifier(nn.Module):
    """A transformer over word numbers [rows, tokens], 0 = padding: mean over the words, then classes."""

    def __init__(self, words, tokens, classes, width=64, heads=4, wide=128, blocks=2):
        super().__init__()
        self.words = nn.Embedding(words, width, padding_idx=PADDING)
        with torch.no_grad():
            self.words.weight.mul_(0.1)
        at = torch.arange(tokens)[:, None] / 10000 ** (torch.arange(0, width, 2) / width)
        self.register_buffer("places", 0.1 * torch.cat([at.sin(), at.cos()], dim=1), persistent=False)
        self.blocks = nn.ModuleList([Block(width, heads, wide) for _ in range(blocks)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, ids):
        is_word = ids != PADDING
        x = self.words(ids) + self.places[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, is_word)
        share = is_word.to(x.dtype)
        share = share / share.sum(dim=1, keepdim=True).clamp(min=1)
        return self.classify((self.norm(x) * share[:, :, None]).sum(dim=1))

    def classify(self, pooled):
        return self.head(pooled)


def margins(logits, labels):
    """log p - log(1 - p) [rows] of the labels, without ever forming 1 - p."""
    is_label = labels[:, None] == torch.arange(logits.shape[1])
    others = torch.logsumexp(logits.masked_fill(is_label, -torch.inf), dim=1)
    return logits.gather(1, labels[:, None])[:, 0] - others


def linear_names(network):
    return [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]


def table_names(network):
    return [name for name, module in network.named_modules() if isinstance(module, nn.Embedding)]
