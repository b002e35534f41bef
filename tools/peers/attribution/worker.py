"""Measures one method on one task: a process of its own for each, with one thread."""

import argparse
import logging
import os
import sys
import warnings

# Nothing here comes from a hub; libraries that look for one would wait for it.
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", CUDA_VISIBLE_DEVICES="", TQDM_DISABLE="1")
os.environ.setdefault("OMP_NUM_THREADS", "1")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--task", required=True)
    parser.add_argument("--method", required=True)
    parser.add_argument("--setting", default="linear")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)

    import torch

    import measuring
    from stages import Stages
    from tasks import TASKS

    torch.set_num_threads(1)
    torch.manual_seed(0)
    stages = Stages(given.cache)
    task = TASKS[given.task](stages, given.model)
    print(measuring.measured(stages, task, given.method, given.setting, told=lambda text: print(text, file=sys.stderr)))


if __name__ == "__main__":
    main()
