"""The examples in docstrings print what they say."""

import doctest
import importlib

import pytest
import torch


@pytest.mark.parametrize("name", ["functional", "alignment", "loss", "gaps", "model.encoder"])
def test_examples(name):
    module = importlib.import_module(f"lac.{name}")
    results = doctest.testmod(module, extraglobs={"torch": torch})
    assert results.attempted > 0
    assert results.failed == 0
