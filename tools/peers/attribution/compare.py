"""Measures what is missing of ascribe and of other libraries for training-data attribution, and prints the table."""

import argparse
import os
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
# The transformer is attributed to twice: to its linear layers, and to all its weights with the word table.
PLACES = {"digits": ["linear"], "tate": ["linear"], "transformer": ["linear", "all"]}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", required=True, help="folder that keeps what was computed")
    parser.add_argument("--model", required=True, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--task", default=",".join(PLACES), help="of digits,tate,transformer [default: all]")
    parser.add_argument("--only", help="METHOD,METHOD: measure these alone (see --list)")
    parser.add_argument("--list", action="store_true", help="print the methods, and what was measured of them")
    parser.add_argument("--table", action="store_true", help="print the table of what was measured, as Markdown; measure nothing")
    parser.add_argument("--json", action="store_true", help="the same with everything that was tried, as JSON")
    parser.add_argument("--labels", action="store_true", help="measure how wrong labels are found, instead of LDS")
    return parser.parse_args()


def measure(given, task, name, setting):
    """In a process of its own, which says where the result lies; a method that fails is told and passed over."""
    command = [sys.executable, str(HERE / "worker.py"), "--cache", given.cache, "--model", given.model]
    command += ["--task", task, "--method", name, "--setting", setting]
    begun = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        print(f"{task}, {setting}: {name} failed: {last}", file=sys.stderr)
        print(done.stderr, file=sys.stderr)
    else:
        print(f"{task}, {setting}: {name}, {time.monotonic() - begun:.0f} s", file=sys.stderr)


def chosen(given):
    """(task, setting, method) to measure, and methods by name."""
    from methods import all_methods

    methods = all_methods()
    wanted = given.only.split(",") if given.only else list(methods)
    if unknown := set(wanted) - set(methods):
        sys.exit(f"no such methods: {', '.join(sorted(unknown))}; there are {', '.join(methods)}")
    tasks = given.task.split(",")
    if unknown := set(tasks) - set(PLACES):
        sys.exit(f"no such tasks: {', '.join(sorted(unknown))}; there are {', '.join(PLACES)}")
    jobs = []
    for task in tasks:
        for setting in PLACES[task]:
            jobs += [(task, setting, name) for name in wanted if setting == "linear" or methods[name].takes_table]
    return jobs, methods


def main():
    given = arguments()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.update(CUDA_VISIBLE_DEVICES="", TQDM_DISABLE="1", HF_HUB_OFFLINE="1")
    import torch

    import labels
    import measuring
    import table
    import training
    from stages import Stages
    from tasks import TASKS

    torch.set_num_threads(1)
    stages = Stages(given.cache)
    jobs, methods = chosen(given)
    made = {name: TASKS[name](stages, given.model) for name in given.task.split(",")}

    def is_measured(task, setting, name):
        key = measuring.key(made[task], methods[name], setting)
        return stages.place(f"{task}-{name}-{setting}", key).exists()

    if given.labels:
        for task in (made[name] for name in labels.TASKS if name in made):
            print("\n".join(labels.table(stages, task, os.environ["ASCRIBE"])), end="\n\n")
        return
    if given.list:
        for job in jobs:
            print(f"{job[0]:12}{job[1]:8}{job[2]:40}{'measured' if is_measured(*job) else ''}")
        return
    if not given.table and not given.json:
        for job in jobs:
            if not is_measured(*job):
                measure(given, job[0], job[2], job[1])
        for task in made.values():
            training.truth(stages, task, told=lambda text: print(text, file=sys.stderr))
    table.show(stages, [(made[task], setting) for task in made for setting in PLACES[task]], given.json)


if __name__ == "__main__":
    main()
