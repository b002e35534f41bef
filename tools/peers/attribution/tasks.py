"""The three data sets, each with the network that is trained on it."""

import collections
import dataclasses
import json
import pathlib
import re

import numpy
import torch

import networks

HERE = pathlib.Path(__file__).resolve().parent
ARTWORKS = HERE.parents[1] / "demo-data" / "tate.jsonl"
QUERIES = 200
TATE_ROWS = 2000
TOKENS = 12
HIDDEN = 64

PERCEPTRON_TRAINING = {"epochs": 20, "batch": 64, "learning_rate": 0.01, "weight_decay": 0.0}
TRANSFORMER_TRAINING = {"epochs": 10, "batch": 64, "learning_rate": 0.002, "weight_decay": 0.0}


@dataclasses.dataclass
class Task:
    """Rows and queries as tensors, and how the network is made and trained."""

    name: str
    title: str
    x: torch.Tensor
    y: torch.Tensor
    query_x: torch.Tensor
    query_y: torch.Tensor
    classes: int
    training: dict
    # What a network's shape follows from.
    shape: dict
    has_table: bool = False

    def network(self):
        if self.has_table:
            return networks.TextClassifier(classes=self.classes, **self.shape)
        return networks.Perceptron(classes=self.classes, **self.shape)

    @property
    def settings(self):
        """What keys of stages are made of."""
        return {"task": self.name, "rows": len(self.x), "training": self.training, "shape": self.shape}

    def with_labels(self, y):
        return dataclasses.replace(self, y=y)


def digits(stages, model):
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    features, labels = load_digits(return_X_y=True)
    features = (features / 16.0).astype(numpy.float32)
    rows, queries = train_test_split(numpy.arange(len(labels)), test_size=QUERIES, stratify=labels, random_state=0)
    parts = [torch.from_numpy(part) for part in (features[rows], labels[rows], features[queries], labels[queries])]
    title = f"{len(rows):,} digits, MLP"
    return Task("digits", title, *parts, 10, PERCEPTRON_TRAINING, {"inputs": 64, "hidden": HIDDEN})


def artworks():
    """Texts "TITLE. ARTIST, YEAR" and numbers of techniques of the rows and of the queries."""
    lines = [json.loads(line) for line in ARTWORKS.read_text(encoding="utf-8").splitlines()]
    order = numpy.random.default_rng(0).permutation(len(lines))[: TATE_ROWS + QUERIES]
    names = sorted({line["technique"] for line in lines})
    texts = ["{title}. {artist}, {year}".format(**lines[row]) for row in order]
    labels = torch.tensor([names.index(lines[row]["technique"]) for row in order])
    return texts, labels, len(names)


def sentence_vectors(texts, model):
    """Means of the last layer over the words, normalised, float32 [texts, width]."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, encoder = AutoTokenizer.from_pretrained(model), AutoModel.from_pretrained(model).eval()
    vectors = []
    with torch.no_grad():
        for first in range(0, len(texts), 32):
            batch = tokenizer(texts[first : first + 32], padding=True, truncation=True, max_length=256, return_tensors="pt")
            mask = batch["attention_mask"][:, :, None].float()
            states = encoder(**batch).last_hidden_state
            vectors.append((states * mask).sum(dim=1) / mask.sum(dim=1))
    return torch.nn.functional.normalize(torch.cat(vectors), dim=1)


def tate(stages, model):
    from stages import key_of

    texts, labels, classes = artworks()

    def encode(folder):
        numpy.save(folder / "vectors.npy", sentence_vectors(texts, model).numpy())

    settings = {"texts": texts, "model": pathlib.Path(model).name}
    place = stages.once("tate-vectors", key_of(settings, ("torch", "transformers")), encode)
    vectors = torch.from_numpy(numpy.load(place / "vectors.npy"))
    x, query_x = vectors[:TATE_ROWS], vectors[TATE_ROWS:]
    y, query_y = labels[:TATE_ROWS], labels[TATE_ROWS:]
    title = f"{TATE_ROWS:,} titles of the Tate, MLP on MiniLM"
    shape = {"inputs": vectors.shape[1], "hidden": HIDDEN}
    return Task("tate", title, x, y, query_x, query_y, classes, PERCEPTRON_TRAINING, shape)


def word_numbers(texts, rows):
    """Numbers of words [texts, TOKENS]; words that stand twice or more in the first `rows` texts have one of their own."""
    split = [re.findall(r"\w+", text.lower())[:TOKENS] for text in texts]
    counts = collections.Counter(word for words in split[:rows] for word in words)
    known = [word for word, count in sorted(counts.items()) if count >= 2]
    numbers = {word: number for number, word in enumerate(known, networks.UNKNOWN + 1)}
    ids = torch.full((len(texts), TOKENS), networks.PADDING)
    for row, words in enumerate(split):
        ids[row, : len(words)] = torch.tensor([numbers.get(word, networks.UNKNOWN) for word in words])
    return ids, len(known) + networks.UNKNOWN + 1


def transformer(stages, model):
    texts, labels, classes = artworks()
    ids, words = word_numbers(texts, TATE_ROWS)
    x, query_x = ids[:TATE_ROWS], ids[TATE_ROWS:]
    y, query_y = labels[:TATE_ROWS], labels[TATE_ROWS:]
    title = f"{TATE_ROWS:,} titles of the Tate, transformer from scratch"
    shape = {"words": words, "tokens": TOKENS}
    return Task("transformer", title, x, y, query_x, query_y, classes, TRANSFORMER_TRAINING, shape, has_table=True)


TASKS = {"digits": digits, "tate": tate, "transformer": transformer}
