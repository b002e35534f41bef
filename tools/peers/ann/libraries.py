"""The peers: each builds an index in a folder, opens it and searches it, with M = 16 and efConstruction = 200.

`search` takes all queries at once and answers with one row of row numbers for each, -1 for none. `effort` is the length
of the candidate list of a graph walk (ef), or None where there is none. A library is imported when its peer is made.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy

LINKS = 16
EFFORT_BUILD = 200


class Hnswlib:
    packages = ("hnswlib",)

    def __init__(self, threads):
        import hnswlib

        self.library, self.threads = hnswlib, threads

    def build(self, vectors, folder):
        index = self.library.Index(space="ip", dim=vectors.shape[1])
        index.init_index(max_elements=len(vectors), M=LINKS, ef_construction=EFFORT_BUILD, random_seed=7)
        index.add_items(vectors, num_threads=self.threads)
        index.save_index(os.path.join(folder, "index"))

    def open(self, folder, width):
        self.index = self.library.Index(space="ip", dim=width)
        self.index.load_index(os.path.join(folder, "index"))

    def search(self, queries, k, effort):
        self.index.set_ef(max(effort, k))
        return self.index.knn_query(queries, k=k, num_threads=self.threads)[0].astype(numpy.int64)


class Faiss:
    packages = ("faiss-cpu",)
    # Maps the file instead of reading it, for the kinds of index that can.
    maps = True

    def __init__(self, threads):
        import faiss

        self.library = faiss
        faiss.omp_set_num_threads(threads)

    def build(self, vectors, folder):
        index = self.make(vectors.shape[1])
        if not index.is_trained:
            index.train(vectors)
        index.add(vectors)
        self.library.write_index(index, os.path.join(folder, "index"))

    def open(self, folder, width):
        flags = self.library.IO_FLAG_MMAP_IFC if self.maps else 0
        self.index = self.library.read_index(os.path.join(folder, "index"), flags)

    def search(self, queries, k, effort):
        parameters = self.library.SearchParametersHNSW(efSearch=effort)
        return self.index.search(queries, k, params=parameters)[1]


class FaissFlat(Faiss):
    def make(self, width):
        return self.library.IndexFlatIP(width)

    def search(self, queries, k, effort):
        return self.index.search(queries, k)[1]


class FaissFlatSingle(FaissFlat):
    """The same with one query a call."""

    def search(self, queries, k, effort):
        return numpy.concatenate([self.index.search(query[None], k)[1] for query in queries])


class FaissHnsw(Faiss):
    def make(self, width):
        return self.adjusted(self.library.IndexHNSWFlat(width, LINKS, self.library.METRIC_INNER_PRODUCT))

    def adjusted(self, index):
        index.hnsw.efConstruction = EFFORT_BUILD
        return index


class FaissHnswCodes(FaissHnsw):
    def make(self, width):
        kind = self.library.ScalarQuantizer.QT_8bit
        metric = self.library.METRIC_INNER_PRODUCT
        return self.adjusted(self.library.IndexHNSWSQ(width, kind, LINKS, metric))


class Usearch:
    packages = ("usearch",)

    def __init__(self, threads):
        from usearch.index import Index

        self.library, self.threads = Index, threads

    def build(self, vectors, folder):
        index = self.library(
            ndim=vectors.shape[1], metric="ip", dtype=self.element, connectivity=LINKS, expansion_add=EFFORT_BUILD
        )
        index.add(numpy.arange(len(vectors)), vectors, threads=self.threads)
        index.save(os.path.join(folder, "index"))

    def open(self, folder, width):
        self.index = self.library.restore(os.path.join(folder, "index"), view=True)

    def search(self, queries, k, effort):
        self.index.expansion_search = max(effort, k)
        matches = self.index.search(queries, k, threads=self.threads)
        keys = numpy.atleast_2d(matches.keys).astype(numpy.int64)
        counts = numpy.atleast_1d(getattr(matches, "counts", keys.shape[1]))
        keys[numpy.arange(keys.shape[1])[None] >= counts[:, None]] = -1
        return keys


class UsearchHalf(Usearch):
    element = "f16"


class UsearchByte(Usearch):
    element = "i8"


class Lance:
    """One graph over all rows on codes of a byte; three times as many rows as are asked for are scored again."""

    packages = ("lancedb", "pyarrow")
    refine = 3

    def __init__(self, threads):
        import lancedb
        import pyarrow

        self.library, self.arrow = lancedb, pyarrow

    def build(self, vectors, folder):
        values = self.arrow.array(vectors.reshape(-1))
        column = self.arrow.FixedSizeListArray.from_arrays(values, vectors.shape[1])
        rows = self.arrow.array(numpy.arange(len(vectors)))
        table = self.library.connect(folder).create_table("rows", self.arrow.table({"row": rows, "vector": column}))
        table.create_index(
            metric="dot", index_type="IVF_HNSW_SQ", num_partitions=1, m=LINKS, ef_construction=EFFORT_BUILD
        )

    def open(self, folder, width):
        self.table = self.library.connect(folder).open_table("rows")

    def search(self, queries, k, effort):
        search = self.table.search(list(queries), vector_column_name="vector").distance_type("dot")
        search = search.limit(k).ef(max(effort, self.refine * k)).refine_factor(self.refine)
        found = search.select(["row"]).to_arrow()
        return in_order(found, len(queries), k)


def in_order(found, queries, k):
    """Row numbers of a table; its column `query_index` says which query a row answers, unless there was but one."""
    rows = found.column("row").to_numpy()
    out = numpy.full((queries, k), -1, dtype=numpy.int64)
    if "query_index" not in found.column_names:
        out[0, : len(rows)] = rows
        return out
    of_query = found.column("query_index").to_numpy()
    for query in range(queries):
        own = rows[of_query == query]
        out[query, : len(own)] = own
    return out


class Zvec:
    """Takes one query a call: with more than one thread, that many ask at once."""

    packages = ("zvec",)
    batch = 1000

    def __init__(self, threads):
        import zvec

        self.library, self.threads = zvec, threads
        zvec.init(log_level=zvec.LogLevel.ERROR, query_threads=threads, optimize_threads=threads)

    def build(self, vectors, folder):
        library = self.library
        graph = library.HnswIndexParam(
            metric_type=library.MetricType.IP, m=LINKS, ef_construction=EFFORT_BUILD
        )
        column = library.VectorSchema("vector", library.DataType.VECTOR_FP32, vectors.shape[1], graph)
        schema = library.CollectionSchema(name="rows", vectors=column)
        # The folder must not exist yet.
        collection = library.create_and_open(path=os.path.join(folder, "rows"), schema=schema)
        for start in range(0, len(vectors), self.batch):
            block = vectors[start : start + self.batch].tolist()
            documents = [
                library.Doc(id=str(start + offset), vectors={"vector": vector}) for offset, vector in enumerate(block)
            ]
            if not all(status.ok() for status in collection.insert(documents)):
                raise RuntimeError(f"rows from {start} on were refused")
        collection.optimize(library.OptimizeOption(concurrency=self.threads))
        collection.flush()

    def open(self, folder, width):
        option = self.library.CollectionOption(read_only=True, enable_mmap=True)
        self.collection = self.library.open(path=os.path.join(folder, "rows"), option=option)

    def search(self, queries, k, effort):
        parameters = self.library.HnswQueryParam(ef=max(effort, k))

        def ask(vector):
            query = self.library.Query(field_name="vector", vector=vector, param=parameters)
            found = self.collection.query(query, topk=k, output_fields=[])
            rows = [int(document.id) for document in found]
            return rows + [-1] * (k - len(rows))

        if self.threads == 1:
            return numpy.array([ask(vector) for vector in queries])
        with ThreadPoolExecutor(self.threads) as pool:
            return numpy.array(list(pool.map(ask, queries)))


PEERS = {
    "hnswlib": Hnswlib,
    "faiss flat": FaissFlat,
    "faiss flat single": FaissFlatSingle,
    "faiss hnsw f32": FaissHnsw,
    "faiss hnsw sq8": FaissHnswCodes,
    "usearch f16": UsearchHalf,
    "usearch i8": UsearchByte,
    "lancedb hnsw sq": Lance,
    "zvec hnsw": Zvec,
}
# These have no candidate list: their answers are exact.
EXACT = ("faiss flat", "faiss flat single")
# These search what another one built.
BUILT_BY = {"faiss flat single": "faiss flat"}
