"""What was computed once is kept: each stage is a folder named by a hash of its settings and of the packages' versions."""

import functools
import hashlib
import importlib.metadata
import json
import os
import pathlib
import shutil

PACKAGES = ("torch", "numpy", "scikit-learn", "kronfluence", "traker", "dattri", "bergson", "cleanlab")


@functools.lru_cache(None)
def version(package):
    return importlib.metadata.version(package)


def key_of(settings, packages=("torch", "numpy")):
    """16 hexadecimal digits that stand for these settings (JSON values) and the versions of these packages."""
    told = json.dumps([settings, {name: version(name) for name in packages}], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


class Stages:
    """The cache folder.

    A stage writes into a folder of its own that is renamed when all is there: what a kill left half done is not found.
    """

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def place(self, name, key):
        return self.folder / f"{name}-{key}"

    def once(self, name, key, make):
        """The stage's folder; `make(folder)` fills it where it does not exist yet."""
        place = self.place(name, key)
        if place.exists():
            return place
        scratch = place.with_name(f"{place.name}.{os.getpid()}")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        make(scratch)
        if place.exists():
            shutil.rmtree(scratch)
        else:
            scratch.rename(place)
        return place
