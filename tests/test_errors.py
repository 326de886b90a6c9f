"""Errors as another process gets them."""

from __future__ import annotations

import pickle

import pytest

from btrimg.errors import BlockError, BtrimgError, CorruptError, ItemError, OptionError, RecipeError, WorseError

ERRORS = (
    BtrimgError("plain"),
    CorruptError("of two", 7),
    OptionError("an option", "csum"),
    WorseError(["first", "second"]),
    RecipeError("r.toml", 7, "no such field"),
    BlockError(16384, "csum", "the checksum differs", level=1, tree=7, parent=32768),
    ItemError(16384, (256, 1, 0), "too short", fault="layout"),
)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_what_comes_out_of_a_pickle_is_what_went_in(error: BtrimgError) -> None:
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is type(error)
    assert (found.args, str(found), vars(found)) == (error.args, str(error), vars(error))
