"""Vectors to compare on, with their exact answers, made once and kept.

A data set is a folder: vectors.npy and queries.npy (float32, normalised), truth.npz (the highest and the lowest inner
products with each query, exact, the strongest first) and fingerprint (of both npy files, in hexadecimal).
"""

import ast
import hashlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import sysconfig

import numpy

WIDTH = 384
TRUTH_ROWS = 100
QUERIES = 1000
LARGE_QUERIES = 200
REAL_ROWS = 30_000
SYNTHETIC_ROWS = 100_000
CENTRES = 1000
NOISE = 0.7
CHUNK_TEXTS = 2000
BLOCK_ROWS = 20_000
# Products of the same vectors may differ by this much.
SCORE_ERROR = 1e-6
# Their documentation is part of the real set, at the versions of requirements.txt.
PACKAGES = ("numpy", "hnswlib", "faiss-cpu", "usearch", "pyarrow", "lancedb", "zvec")
# Folders of the standard library that hold no documentation of it.
LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "__pycache__"}


def real(cache, program, model, rows):
    """Embeddings of sentences out of the documentation of Python and some packages, by the encoder of `program`."""
    texts = sentences(cache)
    if len(texts) < QUERIES + rows:
        print(f"{len(texts)} sentences, so {len(texts) - QUERIES} rows instead of {rows}", file=sys.stderr)
        rows = len(texts) - QUERIES
    texts = texts[: QUERIES + rows]
    name = f"real-{rows}"
    of_texts = hashlib.sha256("\n".join(texts).encode()).hexdigest()

    def make(folder):
        parts = [encoded(cache, program, model, texts, start) for start in range(0, len(texts), CHUNK_TEXTS)]
        vectors = numpy.concatenate(parts)
        numpy.save(os.path.join(folder, "queries.npy"), vectors[:QUERIES])
        numpy.save(os.path.join(folder, "vectors.npy"), vectors[QUERIES:])

    return kept(os.path.join(cache, "data", f"{name}-{of_texts[:12]}"), make)


def encoded(cache, program, model, texts, start):
    """Vectors of the chunk of `texts` that begins at `start`; each chunk is kept by its content."""
    chunk = "".join(text + "\n" for text in texts[start : start + CHUNK_TEXTS])
    path = os.path.join(cache, "encoded", hashlib.sha256(chunk.encode()).hexdigest()[:16] + ".npy")
    if not os.path.exists(path):
        print(f"encoding texts {start} to {start + CHUNK_TEXTS} of {len(texts)}", file=sys.stderr)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + ".txt", "w", encoding="utf-8") as file:
            file.write(chunk)
        command = [program, "encode", model, path + ".txt", path + ".unfinished"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        os.remove(path + ".txt")
        os.rename(path + ".unfinished", path)
    return numpy.load(path)


def sentences(cache):
    """Sentences of 20 to 300 characters, each once, ordered by SHA-256: as good as shuffled, and always alike."""
    versions = [sys.version] + [f"{name} {version(name)}" for name in PACKAGES]
    fingerprint = hashlib.sha256("\n".join(versions).encode()).hexdigest()[:12]
    path = os.path.join(cache, "data", f"sentences-{fingerprint}.json")
    if not os.path.exists(path):
        found = {sentence for text in documentation() for sentence in split(text)}
        ordered = sorted(found, key=lambda text: hashlib.sha256(text.encode()).digest())
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + ".unfinished", "w", encoding="utf-8") as file:
            json.dump(ordered, file)
        os.rename(path + ".unfinished", path)
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def documentation():
    """Docstrings of the sources, and other texts of several lines in them."""
    folders = [sysconfig.get_path("stdlib")]
    for package in PACKAGES:
        if version(package) != "missing":
            files = importlib.metadata.files(package) or []
            tops = {file.parts[0] for file in files if file.suffix == ".py" and len(file.parts) > 1}
            folders += sorted(os.path.join(sysconfig.get_path("platlib"), top) for top in tops if top != "..")
    for top in folders:
        for folder, folders_inside, files in os.walk(top):
            folders_inside[:] = sorted(set(folders_inside) - LEFT_OUT)
            for file in sorted(files):
                if file.endswith((".py", ".pyi")):
                    yield from strings(os.path.join(folder, file))


def strings(path):
    with open(path, "rb") as file:
        source = file.read()
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" in node.value:
            yield node.value
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            if isinstance(node.value.value, str):
                yield node.value.value


def split(text):
    """The sentences of a text: of its paragraphs without indented code, tables and lists of names."""
    for paragraph in re.split(r"\n\s*\n", text):
        if ">>>" in paragraph or re.search(r"[=~^*-]{4}|\|\s", paragraph):
            continue
        plain = " ".join(paragraph.split())
        for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z\"'`(])", plain):
            letters = sum(character.isalpha() or character == " " for character in sentence)
            whole = sentence.isprintable() and len(sentence.split()) >= 4
            if 20 <= len(sentence) <= 300 and whole and letters >= 0.75 * len(sentence):
                yield sentence


def synthetic(cache, rows, queries):
    """Points near 1,000 centres. A larger set begins with the rows of a smaller one."""

    def make(folder):
        path = os.path.join(folder, "vectors.npy")
        shape = (rows, WIDTH)
        vectors = numpy.lib.format.open_memmap(path, "w+", numpy.float32, shape)
        for start in range(0, rows, BLOCK_ROWS):
            count = min(BLOCK_ROWS, rows - start)
            vectors[start : start + count] = clustered(1 + start // BLOCK_ROWS, BLOCK_ROWS)[:count]
        vectors.flush()
        numpy.save(os.path.join(folder, "queries.npy"), clustered(0, QUERIES)[:queries])

    return kept(os.path.join(cache, "data", f"synthetic-{rows}-{queries}"), make)


def clustered(block, rows):
    centres = numpy.random.default_rng(7).standard_normal((CENTRES, WIDTH), dtype=numpy.float32)
    stream = numpy.random.default_rng([7, block])
    points = centres[stream.integers(CENTRES, size=rows)]
    points += NOISE * stream.standard_normal((rows, WIDTH), dtype=numpy.float32)
    return points / numpy.linalg.norm(points, axis=1, keepdims=True)


def kept(folder, make):
    """The folder, filled by `make` unless it is there; it arrives whole."""
    if not os.path.exists(folder):
        unfinished = folder + ".unfinished"
        os.makedirs(unfinished, exist_ok=True)
        make(unfinished)
        add_truth(unfinished)
        digest = hashlib.sha256()
        for name in ("vectors.npy", "queries.npy"):
            with open(os.path.join(unfinished, name), "rb") as file:
                while block := file.read(1 << 24):
                    digest.update(block)
        with open(os.path.join(unfinished, "fingerprint"), "w", encoding="ascii") as file:
            file.write(digest.hexdigest()[:16])
        os.rename(unfinished, folder)
    return folder


def fingerprint(folder):
    with open(os.path.join(folder, "fingerprint"), encoding="ascii") as file:
        return file.read()


def add_truth(folder):
    """By the products of all pairs, in float32."""
    vectors = numpy.load(os.path.join(folder, "vectors.npy"), mmap_mode="r")
    queries = numpy.load(os.path.join(folder, "queries.npy"))
    best = {"proponents": [], "opponents": []}
    for start in range(0, len(vectors), BLOCK_ROWS):
        scores = queries @ numpy.asarray(vectors[start : start + BLOCK_ROWS]).T
        for side, sign in (("proponents", -1), ("opponents", 1)):
            both = numpy.concatenate([*best[side], sign * scores], axis=1)
            both.sort(axis=1)
            best[side] = [both[:, :TRUTH_ROWS]]
    best["proponents"][0] *= -1
    numpy.savez(os.path.join(folder, "truth.npz"), **{side: scores for side, [scores] in best.items()})


class Truth:
    """How many of the rows that a query should find it did find."""

    def __init__(self, folder):
        self.scores = dict(numpy.load(os.path.join(folder, "truth.npz")))
        self.vectors = numpy.load(os.path.join(folder, "vectors.npy"), mmap_mode="r")
        self.queries = numpy.load(os.path.join(folder, "queries.npy"))

    def recall(self, found, k, side):
        """Of `found`, one row of row numbers for each of the first queries; less than 0 is none.

        A row counts that scores as much as the k-th best one: where several score the same, any of them is right.
        """
        sign = 1 if side == "proponents" else -1
        good = 0
        for query, rows in enumerate(found):
            rows = numpy.unique(rows[rows >= 0])
            scores = sign * (self.vectors[rows] @ self.queries[query])
            good += min(k, int((scores >= sign * self.scores[side][query, k - 1] - SCORE_ERROR).sum()))
        return good / (k * len(found))
