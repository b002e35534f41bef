"""How well scores agree with retrained networks: one function for all methods, ours too.

The linear datamodelling score (Park et al., arXiv 2303.14186, section 2) is the mean over queries of the Spearman correlation
between what the scores of a subset's rows sum to and the margins of networks trained on the subset.
"""

import itertools

import numpy
from scipy.stats import rankdata

RESAMPLES = 1000
LEVEL = 0.95


class Truth:
    """Margins [subsets, seeds, queries] of networks trained on subsets, and the resamples that all methods share."""

    def __init__(self, outputs, seed=0):
        self.outputs = outputs.astype(numpy.float64)
        means = self.outputs.mean(axis=1).T
        self.ranks = rankdata(means, axis=1)
        self.order = numpy.argsort(means, axis=1, kind="stable")
        numbers = numpy.random.default_rng(seed)
        queries, subsets = means.shape
        draw = lambda count: numbers.multinomial(count, numpy.full(count, 1 / count), RESAMPLES)  # noqa: E731
        self.subset_weights = draw(subsets).astype(numpy.float64)
        self.query_weights = draw(queries).astype(numpy.float64)

    def correlations(self, groups):
        """Spearman correlation of each query for group scores [queries, subsets]."""
        own = rankdata(groups, axis=1)
        return _pearson(own, self.ranks, numpy.ones(groups.shape[1]))

    def draws(self, groups):
        """The score on each resample [RESAMPLES]: queries and subsets drawn with replacement."""
        order = numpy.argsort(groups, axis=1, kind="stable")
        found = numpy.empty(RESAMPLES)
        for number, (subsets, queries) in enumerate(zip(self.subset_weights, self.query_weights)):
            own, outputs = _weighted_ranks(order, subsets), _weighted_ranks(self.order, subsets)
            found[number] = numpy.average(_pearson(own, outputs, subsets), weights=queries)
        return found

    def ceiling(self):
        """What a perfect method would reach: sqrt(s r / (1 + (s - 1) r)), r the correlation of two of the s seeds."""
        ranks = [rankdata(outputs.T, axis=1) for outputs in self.outputs.swapaxes(0, 1)]
        even = numpy.ones(self.outputs.shape[0])
        single = numpy.mean([_pearson(*pair, even) for pair in itertools.combinations(ranks, 2)], axis=0).clip(0, 1)
        return float(numpy.sqrt(len(ranks) * single / (1 + (len(ranks) - 1) * single)).mean())


def _pearson(left, right, weights):
    """Weighted correlation of each row of two matrices."""
    total = weights.sum()
    left = left - (left @ weights / total)[:, None]
    right = right - (right @ weights / total)[:, None]
    products = (left * right) @ weights
    lengths = numpy.sqrt(((left * left) @ weights) * ((right * right) @ weights))
    return products / numpy.maximum(lengths, 1e-300)


def _weighted_ranks(order, weights):
    """Average ranks of each row's values where value j stands weights[j] times; `order` sorts them, none are equal."""
    sorted_weights = weights[order]
    ranks = numpy.empty(order.shape)
    ends = numpy.cumsum(sorted_weights, axis=1)
    numpy.put_along_axis(ranks, order, ends - (sorted_weights - 1) / 2, axis=1)
    return ranks


def interval(mean, draws):
    """mean, low, high; draws are moved to have that mean, for what was drawn twice ties with itself."""
    rest = 100 * (1 - LEVEL) / 2
    low, high = numpy.percentile(draws - draws.mean() + mean, [rest, 100 - rest])
    return [float(mean), float(low), float(high)]


def group_sums(scores, subsets):
    """What the scores [..., rows] of each subset's rows sum to: [..., subsets]; subsets [subsets, taken] are row numbers."""
    marks = numpy.zeros((len(subsets), scores.shape[-1]))
    numpy.put_along_axis(marks, numpy.asarray(subsets), 1.0, axis=1)
    return scores.astype(numpy.float64) @ marks.T
