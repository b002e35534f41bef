"""The methods that are compared, one module for each library."""

from . import ascribe_store, bergson_peer, dattri_peer, kronfluence_peer, traker_peer


def all_methods():
    """Every method by name."""
    found = []
    for module in (ascribe_store, kronfluence_peer, traker_peer, dattri_peer, bergson_peer):
        found.extend(module.methods())
    return {method.name: method for method in found}
