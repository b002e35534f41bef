"""How each layer is to be written, from settings for all layers or by name."""

from __future__ import annotations

import json
import pathlib
from dataclasses import replace
from typing import Dict, Mapping, Optional, Sequence, Tuple, TypeVar, Union

from .encoding import LayerEncoder
from .layers import Layer
from .safetensors_file import TensorReader
from .sides import Projection
from .table import TableEncoder

Value = TypeVar("Value")
# One value for all layers, or values by name; the others have the default.
ByName = Union[Value, Mapping[str, Value]]
Encoder = Union[LayerEncoder, TableEncoder]

PROJECTED_VOCABULARY = (
    "the side of the vocabulary is never projected: a row has gradients at a few of its tokens only, and a projection "
    "mixes tokens that have nothing to do with each other"
)


def make_encoder(
    layer: Layer,
    encoding: ByName[str],
    rank: ByName[int],
    terms: ByName[Optional[int]],
    projection: ByName[Optional[Projection]],
) -> Encoder:
    """The encoder of one layer; a ValueError that names it if the settings do not fit.

    >>> from .layers import select_layers; from torch import nn
    >>> layers, _ = select_layers(nn.Sequential(nn.Linear(9, 4), nn.Linear(4, 2)))
    >>> [make_encoder(layer, {"0": "dense"}, 1, None, {"0": Projection(7, 2, 3)}).widths for layer in layers]
    [(2, 3), (2, 5)]
    """
    form, form_is_own = _of(encoding, layer, "factored")
    pairs, rank_is_own = _of(rank, layer, 1)
    most, _ = _of(terms, layer, None)
    sides, sides_are_own = _of(projection, layer, None)
    for what, number in (("rank", pairs), ("terms", 1 if most is None else most)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{what} {number!r} of {layer.name} is not a whole number from 1 on")
    if layer.is_table:
        if form_is_own and form != "sparse":
            raise ValueError(f"{layer.name} is a table, which is written sparse: its encoding cannot be {form!r}")
        if sides_are_own and sides and sides.inputs is not None:
            raise ValueError(f"{layer.name} is a table: {PROJECTED_VOCABULARY}")
        return TableEncoder(layer, pairs, rank_is_own, sides and replace(sides, inputs=None), most)
    if form not in ("factored", "dense"):
        raise ValueError(f'encoding of {layer.name} is {form!r}, but has to be "factored" or "dense"')
    if layer.holds_table and sides and sides.out is not None:
        if sides_are_own:
            raise ValueError(f"{layer.name} shares its weight with a table: {PROJECTED_VOCABULARY}")
        sides = replace(sides, out=None)
    return LayerEncoder(layer, form, pairs, rank_is_own, sides)


def settings_of(path: Union[str, pathlib.Path]) -> Dict[str, object]:
    """Settings of a `Collector` that writes what a sketch file has: the same layers, encodings, ranks and terms.

    Queries have to be like the rows that they are compared with. Where a query has more different tokens than the
    rows' `terms`, those with the largest gradients are kept.

    >>> Collector(model, "queries.safetensors", **settings_of("train.safetensors"))          # doctest: +SKIP
    """
    tensors = TensorReader(path)
    try:
        schema = json.loads(tensors.metadata["schema"])
        modules = {module["name"]: module for module in schema["modules"]}
        first = next(iter(modules.values()))
        ending = "g" if first["encoding"] == "dense" else "u"
        found: Dict[str, object] = {
            "layers": list(modules),
            "lookups": [name for name, module in modules.items() if module["encoding"] == "sparse"],
            "encoding": {name: module["encoding"] for name, module in modules.items()},
            "rank": {name: module["rank"] for name, module in modules.items() if "rank" in module},
            "terms": {name: module["terms"] for name, module in modules.items() if "terms" in module},
            "shared_input": [name for name, module in modules.items() if module.get("shared_input")],
            "dtype": tensors.entries["m0.{}.{}".format(first["name"], ending)][0],
        }
        projections = {name: module["projection"] for name, module in modules.items() if module.get("projection")}
        found["projection"] = {
            name: Projection(each["seed"], each.get("out"), each.get("in")) for name, each in projections.items()
        }
    except (KeyError, TypeError, ValueError, StopIteration) as error:
        raise ValueError(f"{path} is no sketch file: {error!r}") from error
    if "scaling" in schema:
        found["scaling"] = "adam"
    return found


def check_names(layers: Sequence[Layer], *settings: object) -> None:
    """A ValueError for the first name in a setting that is no layer's."""
    known = [layer.name for layer in layers]
    for setting in settings:
        for name in setting if isinstance(setting, (Mapping, list, tuple, set)) else ():
            if name not in known:
                raise ValueError(f"{name!r} is not a collected layer; those are: {', '.join(known)}")


def one_of(what: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{what} is {value!r}, but has to be one of {', '.join(map(str, allowed))}")


def _of(setting: ByName[Value], layer: Layer, default: Value) -> Tuple[Value, bool]:
    """A layer's value, and whether it was given by its name."""
    if isinstance(setting, Mapping):
        return setting.get(layer.name, default), layer.name in setting
    return setting, False
