"""One table a data set: this store and libraries of nearest neighbours on the same vectors, cores and parameters.

Each round measures every peer once, one after the other, each in a process of its own, so that a slow moment of a
shared machine falls on all alike and the crash of one is a line of the table. What was measured is kept; a run does
what is missing, and what has failed once more.
"""

import argparse
import contextlib
import hashlib
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile

import numpy

import datasets
import libraries
import table
from results import Results

HERE = os.path.dirname(os.path.abspath(__file__))
LADDER = (16, 24, 40, 64, 100, 160, 256, 400, 640)
LADDER_OPPONENTS = (40, 160, 640, 1280)
LARGE_ROWS = (300_000, 1_000_000)
LARGE_PEERS = ("ascribe scan", "ascribe graph", "hnswlib", "usearch i8")
PROCESS_SECONDS_MAX = 6 * 3600
# Programs that do not take a number of threads read it from one of these.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "TOKIO_WORKER_THREADS",
    "LANCE_CPU_THREADS",
)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", required=True, help="the built bench `ann`")
    parser.add_argument("--model", required=True, help="BERT directory that encodes the real set")
    parser.add_argument("--cache", required=True, help="folder for data, indexes and results")
    parser.add_argument("--threads", default="1,2", help="numbers of threads, such as 1,2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, help="rows of each data set instead of 30,000 and 100,000")
    parser.add_argument("--data", default="real,synthetic", help="data sets: real, synthetic")
    parser.add_argument("--only", help="measure these peers alone beside ours, such as hnswlib,'usearch i8'")
    parser.add_argument("--large", action="store_true", help="300,000 and 1,000,000 rows on one thread instead")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured")
    parser.add_argument("--json", action="store_true", help="the tables as JSON")
    return parser.parse_args()


class Failure(Exception):
    """A process that did not do its work, and why."""


class Peer:
    is_ours = False

    def __init__(self, name):
        self.name, self.built_by = name, libraries.BUILT_BY.get(name, name)
        packages = libraries.PEERS[name].packages
        self.versions = ", ".join(f"{package} {datasets.version(package)}" for package in packages)

    def settings(self):
        if self.name in libraries.EXACT:
            return [setting(k, side, None) for k, side in table.ENDS]
        return graph_settings()

    def run(self, task):
        """Yields what the peer's process prints; task as `worker.py` takes it."""
        task = {**task, "peer": self.name}
        yield from lines([sys.executable, os.path.join(HERE, "worker.py")], task["threads"], json.dumps(task))


class Ascribe:
    is_ours = True
    built_by = "ascribe scan"

    def __init__(self, program, plan, single=False):
        """With `single`, one query a call instead of all in few calls."""
        self.program, self.plan, self.single = program, plan, single
        self.name = f"ascribe {plan}{' single' if single else ''}"
        with open(program, "rb") as file:
            self.versions = hashlib.file_digest(file, "sha256").hexdigest()[:16]

    def settings(self):
        return [setting(k, side, None) for k, side in table.ENDS] if self.plan == "scan" else graph_settings()

    def run(self, task):
        threads = ["--threads", str(task["threads"])]
        queries = os.path.join(task["data"], "queries.npy")
        if task["build"]:
            shutil.rmtree(task["folder"], ignore_errors=True)
            made = self.one("build", os.path.join(task["data"], "vectors.npy"), task["folder"], *threads)
            seconds = made["import_seconds"] + made["index_seconds"]
            yield {"kind": "build", "seconds": seconds, **made}
            return
        plan = ["--plan", self.plan if self.plan == "scan" else f"{self.plan}:64"]
        yield {"kind": "first", **self.one("first", task["folder"], queries, *plan, *threads)}
        found = os.path.join(task["scratch"], "found.npy")
        for asked in task["settings"]:
            options = ["--found", found, "--k", str(asked["k"]), "--side", asked["side"], *threads]
            options += ["--call", "1"] if self.single else []
            plan = ["--plan", "scan" if asked["effort"] is None else f"{self.plan}:{asked['effort']}"]
            made = self.one("search", task["folder"], queries, *options, *plan)
            rate = made["queries"] / made["seconds"][0]
            sizes = {"memory_bytes": made["peak_bytes"] - made["base_bytes"], "heap_bytes": made["own_bytes"]}
            yield {"kind": "search", **asked, "rate": rate, **made, **sizes, "found": found}

    def one(self, mode, *options):
        threads = int(options[options.index("--threads") + 1])
        [made] = lines([self.program, mode, *options], threads, "")
        return made


def judged(truth, path, record):
    try:
        return truth.recall(numpy.load(path), record["k"], record["side"])
    except IndexError as error:
        raise Failure(f"an answer names a row that there is none of: {error}") from error


def setting(k, side, effort):
    return {"k": k, "side": side, "effort": effort}


def graph_settings():
    of_side = {"proponents": LADDER, "opponents": LADDER_OPPONENTS}
    return [setting(k, side, effort) for k, side in table.ENDS for effort in of_side[side] if effort >= k]


def lines(command, threads, task):
    """The JSON objects that a process prints, as they come; it has as many cores as threads."""
    environment = os.environ | {name: str(threads) for name in THREAD_VARIABLES}
    cores = sorted(os.sched_getaffinity(0))[:threads]
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        process = subprocess.Popen(
            ["timeout", "--foreground", str(PROCESS_SECONDS_MAX), *command], env=environment, text=True, stderr=errors,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        with process:
            # A process that ended already takes no task; its exit code says why.
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(task)
                process.stdin.flush()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            for line in process.stdout:
                yield json.loads(line)
        if process.returncode != 0:
            errors.seek(0)
            said = [line.strip() for line in errors if line.strip()]
            raise Failure(" / ".join([ending(process.returncode), *said[-1:]]))


def ending(code):
    # `timeout` gives the signal that ended its command as a shell does, or dies of it too.
    number = -code if code < 0 else code - 128
    if number in {one.value for one in signal.Signals}:
        return f"ended by {signal.Signals(number).name}"
    return f"not done after {PROCESS_SECONDS_MAX} s" if code == 124 else f"exit code {code}"


class Comparison:
    def __init__(self, given, peers):
        self.given, self.peers = given, peers
        self.results = Results(os.path.join(given.cache, "results.jsonl"), given.fresh)
        self.failures = {}

    def measure(self, folder, threads):
        """Does what is missing for one data set and one number of threads."""
        data = datasets.fingerprint(folder)
        truth = datasets.Truth(folder)
        for peer in self.peers:
            if peer.built_by == peer.name:
                self.build(peer, folder, data, threads)
        for number in range(self.given.rounds):
            for peer in self.peers:
                if not {(data, threads, name) for name in (peer.name, peer.built_by)} & set(self.failures):
                    self.search(peer, folder, data, threads, number, truth)

    def place(self, peer, data, threads):
        versions = hashlib.sha256(peer.versions.encode()).hexdigest()[:12]
        kind = f"{peer.built_by.replace(' ', '-')}-{threads}-"
        return os.path.join(self.given.cache, "indexes", data), kind, versions

    def common(self, peer, data, threads, number):
        return {"data": data, "peer": peer.name, "versions": peer.versions, "threads": threads, "round": number}

    def task(self, peer, folder, data, threads):
        above, kind, versions = self.place(peer, data, threads)
        return {"data": folder, "folder": os.path.join(above, kind + versions), "threads": threads}

    def build(self, peer, folder, data, threads):
        common = self.common(peer, data, threads, 0)
        task = self.task(peer, folder, data, threads)
        if self.results.has({**common, "kind": "build"}) and os.path.exists(task["folder"]):
            return
        above, kind, _ = self.place(peer, data, threads)
        os.makedirs(above, exist_ok=True)
        for old in os.listdir(above):
            if old.startswith(kind):
                shutil.rmtree(os.path.join(above, old))
        print(f"building {peer.name}, {threads} thread(s)", file=sys.stderr)
        try:
            for record in peer.run({**task, "build": True, "settings": []}):
                self.results.add({**common, **record})
        except Failure as failure:
            self.failures[(data, threads, peer.name)] = f"building: {failure}"

    def search(self, peer, folder, data, threads, number, truth):
        common = self.common(peer, data, threads, number)
        missing = [
            one for one in peer.settings() if not self.results.has({**common, "kind": "search", **one})
        ]
        if not missing and self.results.has({**common, "kind": "first"}):
            return
        print(f"round {number + 1}, {threads} thread(s): {peer.name}", file=sys.stderr)
        task = self.task(peer, folder, data, threads)
        with tempfile.TemporaryDirectory() as scratch:
            task |= {"build": False, "settings": missing, "scratch": scratch}
            try:
                for record in peer.run(task):
                    if found := record.pop("found", None):
                        record["recall"] = judged(truth, found, record)
                    record = {**common, **record}
                    if not self.results.has(record):
                        self.results.add(record)
            except Failure as failure:
                self.failures[(data, threads, peer.name)] = f"searching: {failure}"


def chosen_peers(given):
    [usable] = lines([given.program, "plans"], 1, "")
    peers = [Ascribe(given.program, plan) for plan in usable["plans"]]
    # Beside the exact peer that is asked so.
    peers += [Ascribe(given.program, "scan", single=True)]
    wanted = given.only.split(",") if given.only else list(libraries.PEERS)
    unknown = set(wanted) - set(libraries.PEERS)
    if unknown:
        sys.exit(f"no such peers: {', '.join(sorted(unknown))}; there are {', '.join(libraries.PEERS)}")
    # What one peer searches, another one has built.
    wanted += [libraries.BUILT_BY[name] for name in wanted if libraries.BUILT_BY.get(name, name) not in wanted]
    peers += [Peer(name) for name in libraries.PEERS if name in wanted]
    return [peer for peer in peers if not given.large or peer.name in LARGE_PEERS]


def chosen_data(given):
    if given.large:
        for rows in LARGE_ROWS:
            yield f"synthetic, {rows:,}", datasets.synthetic(given.cache, rows, datasets.LARGE_QUERIES)
        return
    for name in given.data.split(","):
        if name == "real":
            rows = given.rows or datasets.REAL_ROWS
            yield name, datasets.real(given.cache, given.program, given.model, rows)
        elif name == "synthetic":
            rows = given.rows or datasets.SYNTHETIC_ROWS
            yield name, datasets.synthetic(given.cache, rows, datasets.QUERIES)
        else:
            sys.exit(f"no such data set: {name}; there are real and synthetic")


def main(given):
    # A program named relative to here is looked for on the path otherwise.
    given.program = os.path.abspath(given.program)
    comparison = Comparison(given, chosen_peers(given))
    threads_wanted = [1] if given.large else [int(threads) for threads in given.threads.split(",")]
    told = []
    for name, folder in chosen_data(given):
        rows = numpy.load(os.path.join(folder, "vectors.npy"), mmap_mode="r").shape[0]
        for threads in threads_wanted:
            comparison.measure(folder, threads)
            data = datasets.fingerprint(folder)
            failures = [
                (peer, reason) for (of, at, peer), reason in comparison.failures.items() if (of, at) == (data, threads)
            ]
            summary = table.summary(comparison.results, comparison.peers, data, threads)
            told.append({
                "data": name, "rows": rows, "threads": threads, "peers": summary, "failures": dict(failures),
                "versions": {peer.name: peer.versions for peer in comparison.peers},
            })
            if not given.json:
                title = f"{name}: {rows:,} rows of {datasets.WIDTH} values, {threads} thread(s)"
                table.show(title, summary, failures)
                sys.stdout.flush()
    if given.json:
        print(json.dumps(told, indent=1))
    else:
        versions = sorted({peer.versions for peer in comparison.peers if not peer.is_ours})
        print(f"\nPython {sys.version.split()[0]}, {', '.join(versions)}")


if __name__ == "__main__":
    main(arguments())
