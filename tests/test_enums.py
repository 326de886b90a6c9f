"""Enumerations of our own, beside those of enum."""

from __future__ import annotations

import copy
import enum
import json
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btrimg import enums

if TYPE_CHECKING:
    from collections.abc import Callable


class OurKind(enums.IntEnum):
    """Kinds."""

    NONE = 0
    ONE = 1
    UNO = 1
    HIGH = (1 << 64) - 9


class OurFlag(enums.IntFlag):
    """Flags."""

    A = 1 << 0
    B = 1 << 1
    FAR = 1 << 48


class TheirKind(enum.IntEnum):
    """Kinds."""

    NONE = 0
    ONE = 1
    UNO = 1
    HIGH = (1 << 64) - 9


class TheirFlag(enum.IntFlag):
    """Flags."""

    A = 1 << 0
    B = 1 << 1
    FAR = 1 << 48


def outcome(of: Callable[[], Any]) -> object:
    """Return what a call comes to, without saying whose it is, or the kind of error."""
    try:
        found = of()
    except (TypeError, ValueError, KeyError) as error:
        return type(error)
    several = list(found) if isinstance(found, list | tuple) else [found]
    return [(type(each).__name__.replace("Our", "").replace("Their", ""), each) for each in several]


@pytest.mark.parametrize(
    "act",
    [
        list,
        len,
        lambda kind: [each.name for each in kind],
        lambda kind: [each.value for each in kind],
        lambda kind: list(kind.__members__.items()),
        lambda kind: kind["ONE" if "ONE" in kind.__members__ else "A"],
        lambda kind: kind["NOT"],
        lambda kind: kind(1) is kind(kind(1)),
        lambda kind: kind("1"),
        lambda kind: kind(1) in kind,
        lambda kind: kind.__doc__,
        lambda kind: str(kind(1)),
        lambda kind: f"{kind(1)} {kind(1):03x}",
        lambda kind: json.dumps([kind(1), {"a": kind(1)}]),
        lambda kind: {kind(1): 2}[1],
        lambda kind: kind(1) == 1 and kind(1) < 2 and hash(kind(1)) == hash(1),
        lambda kind: kind(1) + 1,
        lambda kind: sum(kind),
        lambda kind: copy.deepcopy(kind(1)) is kind(1),
        lambda kind: pickle.loads(pickle.dumps(kind(1))) is kind(1),
        lambda kind: kind(99999999),
        lambda kind: isinstance(kind(1), kind) and issubclass(kind, int),
    ],
)
@pytest.mark.parametrize(("ours", "theirs"), [(OurKind, TheirKind), (OurFlag, TheirFlag)])
def test_they_do_what_those_of_enum_do(act: Callable[[Any], Any], ours: type, theirs: type) -> None:
    assert outcome(lambda: act(ours)) == outcome(lambda: act(theirs))


@given(st.integers(0, 7) | st.just(1 << 48), st.integers(0, 3) | st.sampled_from([1 << 48, 1 << 50]))
def test_flags_combine_as_those_of_enum_do(one: int, other: int) -> None:
    acts: list[Callable[[Any], Any]] = [
        lambda kind: kind(one) | kind(other),
        lambda kind: kind(one) & other,
        lambda kind: one ^ kind(other),
        lambda kind: kind(one).name,
        lambda kind: list(kind(one)),
        lambda kind: kind(other) in kind(one),
        lambda kind: one & ~kind(other),
        lambda kind: kind(one) | "text",
    ]
    for act in acts:
        assert outcome(lambda: act(OurFlag)) == outcome(lambda: act(TheirFlag))  # noqa: B023 (called at once)


def test_what_they_say_of_themselves() -> None:
    assert repr(OurKind.UNO) == "<OurKind.ONE: 1>"
    assert repr(OurFlag.A | OurFlag.FAR) == "<OurFlag.A|FAR: 281474976710657>"
    assert (OurFlag(0).name, OurFlag(4).name, (1 << 60 | 3) & ~OurFlag.A) == (None, None, 1 << 60 | 2)
    with pytest.raises(ValueError, match="7 is not a valid OurKind"):
        OurKind(7)
