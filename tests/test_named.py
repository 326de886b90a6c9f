"""Named tuples of our own, beside those of typing."""

from __future__ import annotations

import copy
import pickle
import typing
from typing import TYPE_CHECKING, Any

import pytest

from btrimg import named

if TYPE_CHECKING:
    from collections.abc import Callable


class Ours(named.NamedTuple):
    """A point."""

    x: int
    y: Any = "up"
    class_: tuple[int, ...] = ()

    def total(self) -> int:
        """Return something."""
        return self.x + len(self.class_)


class Theirs(typing.NamedTuple):
    """A point."""

    x: int
    y: Any = "up"
    class_: tuple[int, ...] = ()


def fresh() -> type:
    """Return a class of which nothing was made yet."""

    class Ours(named.NamedTuple):
        """A point."""

        x: int
        y: Any = "up"
        class_: tuple[int, ...] = ()

    return Ours


class Empty(named.NamedTuple):
    """Nothing."""


class Narrower(Ours):
    """A class below."""


def outcome(of: Callable[[], Any]) -> object:
    """Return what a call comes to, or the kind of error."""
    try:
        found = of()
    except (TypeError, ValueError, AttributeError) as error:
        return type(error)
    return tuple(found) if isinstance(found, tuple) else found


BY_NAME: list[Callable[[type], Any]] = [  # what finds the class by its name
    lambda kind: copy.deepcopy(kind(1, [2])),
    lambda kind: pickle.loads(pickle.dumps(kind(1))),
]


@pytest.mark.parametrize(
    "act",
    [
        lambda kind: kind(1),
        lambda kind: kind(1, 2, (3,)),
        lambda kind: kind(class_=(), x=3),
        lambda kind: kind(),
        lambda kind: kind(1, 2, 3, 4),
        lambda kind: kind(1, x=1),
        lambda kind: kind(1, z=1),
        lambda kind: kind._make(iter((1, 2, 3))),
        lambda kind: kind._make((1, 2)),
        lambda kind: kind(1)._replace(y="down"),
        lambda kind: kind(1)._replace(z=0),
        lambda kind: kind(1)._asdict(),
        lambda kind: kind(1).y,
        lambda kind: setattr(kind(1), "y", 2),
        lambda kind: setattr(kind(1), "z", 2),
        lambda kind: kind._fields,
        lambda kind: kind.__match_args__,
        lambda kind: kind.__doc__,
        lambda kind: kind(1) == (1, "up", ()),
        lambda kind: hash(kind(1)),
        lambda kind: repr(kind(1, "é")).partition("(")[2],
        *BY_NAME,
        lambda kind: kind._make((1, 2, 3)).__class__ is kind,
    ],
)
def test_they_do_what_those_of_typing_do(act: Callable[[type], Any]) -> None:
    expected = outcome(lambda: act(Theirs))
    assert outcome(lambda: act(Ours)) == expected
    for many in () if act in BY_NAME else (1, 299, 300, 301, 400):
        kind = fresh()
        assert {kind(0, y=1) for _ in range(many)} == {(0, 1, ())}
        assert (outcome(lambda: act(kind)), outcome(lambda: act(kind))) == (expected, expected)  # noqa: B023 (at once)


def test_values_are_of_their_class() -> None:
    assert type(Narrower(1)) is Narrower
    assert isinstance(Narrower(1), Ours)
    assert (Empty(), repr(Empty())) == ((), "Empty()")
    assert Ours(1, class_=(2, 3)).total() == 3
    with pytest.raises(TypeError, match=r"Ours.__new__\(\) missing 1 required positional argument: 'x'"):
        Ours()  # type: ignore[call-arg]
