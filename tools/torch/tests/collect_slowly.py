"""A collection in a process of its own, for tests that end it in the middle: PATH ROWS_BEFORE_KILL [factors]."""

import os
import signal
import sys

import torch

from ascribe_collect import Collector, next_token_labels
from example_models import LanguageModel

ROWS, BATCH = 24, 4


def main(path, kill_at, *settings):
    torch.manual_seed(4)
    torch.set_num_threads(1)
    model, other = LanguageModel(tied=False), LanguageModel(tied=False)
    # Rows of different lengths, so that the table's terms differ from batch to batch.
    tokens = torch.randint(1, 13, (ROWS, 10))
    for row in range(ROWS):
        tokens[row, 3 + (row * 7) % 8 :] = 0
    mask = tokens > 0
    labels = next_token_labels(tokens, token_mask=mask)
    added = 0
    with Collector(
        model, path, rank=2, labels="sampled", seed=3, factors="factors" in settings, resume=True, commit_every_s=0
    ) as collector:
        for epoch, state in enumerate((model, other)):
            collector.member(state, run=0, epoch=epoch)
            print("done", collector.rows_done, flush=True)
            for start in range(0, ROWS, BATCH):
                part = slice(start, start + BATCH)
                if collector.skip(BATCH):
                    continue
                collector.add_tokens(labels[part], lambda model: model(tokens[part]), token_mask=mask[part])
                added += BATCH
                if added == kill_at:
                    # What is written after the last commit must not count.
                    spool = collector._writer._spool
                    spool.append("m0.head.u", spool.read("m0.head.u", 0, 1), "F32")
                    os.kill(os.getpid(), signal.SIGKILL)
        print(collector.finish([f"r{row}" for row in range(ROWS)]))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
