"""10,000 rows in a process of its own, for a test of its memory: FOLDER; prints bytes, largest sizes in kibibytes."""

import pathlib
import resource
import sys

import torch
from torch import nn

from ascribe_collect import Collector, merge_shards
from example_models import LanguageModel

ROWS, BATCH = 10_000, 100


class Model(nn.Module):
    """Tokens of a language model, and a convolution over its logits."""

    def __init__(self):
        super().__init__()
        self.language, self.look = LanguageModel(vocabulary=40, width=16, tied=False, blocks=1), nn.Conv2d(1, 4, 3)

    def forward(self, tokens):
        logits = self.language(tokens)
        return self.look(logits[:, None]).mean((2, 3)), logits


def main(folder):
    torch.set_num_threads(1)
    torch.manual_seed(2)
    model = Model()
    sizes = []
    note = lambda: sizes.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # noqa: E731
    path = folder / "sketch.safetensors"
    with Collector(model, path, rank=2, factors=True, resume=True, commit_every_s=0.5) as collector:
        collector.member(run=0, epoch=1)
        for start in range(0, ROWS, BATCH):
            # Rows of other lengths and tokens in each batch.
            tokens = torch.randint(1, 40, (BATCH, 3 + start // BATCH % 8))
            collector.add(BATCH, lambda model: sum(part.square().flatten(1).sum(1) for part in model(tokens)))
            if start + BATCH in (ROWS // 5, ROWS):
                note()
        collector.finish(map(str, range(ROWS)))
    note()
    merge_shards([path], folder / "joined.safetensors")
    note()
    print(path.stat().st_size, *sizes)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
