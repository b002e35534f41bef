"""One peer in a process of its own: builds its index, or opens it and searches. Prints one JSON object a line.

Reads its task from standard input as JSON: peer, data (a data set's folder), folder (of the index), threads, build
(true or false), settings (each with k, side and effort) and scratch (a folder). The numbers of the rows that a search
found go to a file there, for the reader to judge: the exact vectors, which that takes, would otherwise count as memory
of the peer.
"""

import json
import os
import shutil
import sys
import time

import numpy

from libraries import PEERS

# A slow peer is asked fewer queries, as many as take about this long, but not less than the least number.
SETTING_SECONDS = 0.5
QUERIES_LEAST = 100
# So many of the queries warm up and tell how long the others will take.
WARM_QUERIES = 20
FIRST_EFFORT = 64
# Before the first setting the queries are asked for about this long, so that no setting touches memory for the first time.
TOUCH_SECONDS = 2


def memory():
    """Resident bytes now, the most since `forget_peak`, and those that are not of files."""
    sizes = {}
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name in ("VmRSS", "VmHWM", "RssAnon"):
                sizes[name] = 1024 * int(value.split()[0])
    return sizes["VmRSS"], sizes["VmHWM"], sizes["RssAnon"]


def forget_peak():
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def folder_bytes(top):
    paths = (os.path.join(folder, file) for folder, _, files in os.walk(top) for file in files)
    return sum(os.path.getsize(path) for path in paths)


def build(task, peer):
    vectors = numpy.load(os.path.join(task["data"], "vectors.npy"))
    shutil.rmtree(task["folder"], ignore_errors=True)
    unfinished = task["folder"] + ".unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    os.makedirs(unfinished)
    forget_peak()
    base = memory()[0]
    begun = time.perf_counter()
    peer.build(vectors, unfinished)
    seconds = time.perf_counter() - begun
    peak = memory()[1]
    os.rename(unfinished, task["folder"])
    disk = folder_bytes(task["folder"])
    yield {"kind": "build", "seconds": seconds, "disk_bytes": disk, "memory_bytes": peak - base}


def touch(peer, queries):
    """Asks the queries once, as many as take about TOUCH_SECONDS."""
    begun = time.perf_counter()
    for first in range(0, len(queries), WARM_QUERIES):
        peer.search(queries[first : first + WARM_QUERIES], 10, FIRST_EFFORT)
        if time.perf_counter() - begun > TOUCH_SECONDS:
            return


def search(task, peer):
    queries = numpy.load(os.path.join(task["data"], "queries.npy"))
    forget_peak()
    base, _, own = memory()
    begun = time.perf_counter()
    peer.open(task["folder"], queries.shape[1])
    peer.search(queries[:1], 10, FIRST_EFFORT)
    yield {"kind": "first", "seconds": time.perf_counter() - begun}
    touch(peer, queries)
    for number, setting in enumerate(task["settings"]):
        k, side, effort = setting["k"], setting["side"], setting["effort"]
        asked = queries if side == "proponents" else -queries
        warm = min(WARM_QUERIES, len(asked))
        begun = time.perf_counter()
        peer.search(asked[:warm], k, effort)
        each = (time.perf_counter() - begun) / warm
        count = min(len(asked), max(QUERIES_LEAST, int(SETTING_SECONDS / each)))
        begun = time.perf_counter()
        found = peer.search(asked[:count], k, effort)
        seconds = time.perf_counter() - begun
        _, peak, own_now = memory()
        sizes = {"memory_bytes": peak - base, "heap_bytes": own_now - own}
        path = os.path.join(task["scratch"], f"{number}.npy")
        numpy.save(path, numpy.asarray(found, dtype=numpy.int64))
        yield {"kind": "search", **setting, "rate": count / seconds, "queries": count, "found": path, **sizes}


def main():
    task = json.load(sys.stdin)
    # What a library prints must not get between the results.
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    peer = PEERS[task["peer"]](task["threads"])
    for result in (build if task["build"] else search)(task, peer):
        print(json.dumps(result), file=results, flush=True)


if __name__ == "__main__":
    main()
