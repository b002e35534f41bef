"""The examples in the documentation are true."""

import doctest
import importlib
import pkgutil

import ascribe_collect


def load_tests(loader, tests, pattern):
    del loader, pattern
    for module in pkgutil.iter_modules(ascribe_collect.__path__):
        tests.addTests(doctest.DocTestSuite(importlib.import_module(f"ascribe_collect.{module.name}")))
    return tests
