"""NamedTuple, as typing has it, made in a tenth of the time.

That of typing makes a ForwardRef of every annotation that is text, and that of collections compiles a ``__new__`` for
every class, which takes 0.1 ms: `btrimg edit` imports 90 of them, and makes few values of most.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Self
    from typing import NamedTuple as NamedTuple

    def field_at(index: int, doc: str | None) -> Any:
        """Return a field of a class of tuples."""
else:
    from collections import _tuplegetter as field_at  # what collections makes the fields of its named tuples of

    _new = tuple.__new__
    _OFTEN = 300  # to compile takes about as long as so many values take longer without

    class _Named(tuple):
        __slots__ = ()
        _fields = ()

        @classmethod
        def _make(cls, values: Iterable[Any]) -> Self:
            made = _new(cls, values)
            if len(made) != len(cls._fields):
                raise TypeError(f"{cls.__name__} takes {len(cls._fields)} values, not {len(made)}")
            return made

        def _replace(self, /, **changes: Any) -> Self:
            made = self._make(map(changes.pop, self._fields, self))
            if changes:
                raise ValueError(f"{type(self).__name__} has no {', '.join(changes)}")
            return made

        def _asdict(self) -> dict[str, Any]:
            return dict(zip(self._fields, self, strict=True))

        def __repr__(self) -> str:
            return f"{type(self).__name__}({', '.join(map('{}={!r}'.format, self._fields, self))})"

        def __getnewargs__(self) -> tuple[Any, ...]:
            return tuple(self)

    def _plain_new(homes: list[type[_Named]], fields: tuple[str, ...], defaults: tuple[Any, ...]) -> Any:
        """Return a ``__new__`` of the class in *homes* that compiles one when it was called often, or in a wrong way.

        The class is not there yet: what it has from the start costs less than what is set later.
        """
        calls = 0
        most, least = len(fields), len(fields) - len(defaults)
        needed, usual = fields[:least], (None,) * least + defaults

        def new(cls: type[_Named], /, *values: Any, **named: Any) -> _Named:
            nonlocal calls
            calls += 1
            given = len(values)
            if calls <= _OFTEN and given <= most:
                if not named and given >= least:
                    return _new(cls, values + usual[given:])
                left = fields[given:]
                if set(needed[given:]) <= named.keys() <= set(left):
                    return _new(cls, (*values, *map(named.get, left, usual[given:])))
            (home,) = homes
            home.__new__ = _compiled_new(home, defaults)
            return home.__new__(cls, *values, **named)

        return staticmethod(new)

    def _compiled_new(home: type[_Named], defaults: tuple[Any, ...]) -> Any:
        names = "".join(f"{field}, " for field in home._fields)
        made = eval(f"lambda _cls, {names}: _new(_cls, ({names}))", {"_new": _new})  # noqa: S307 (of names of fields)
        made.__name__, made.__qualname__, made.__defaults__ = "__new__", f"{home.__name__}.__new__", defaults
        return staticmethod(made)

    class _Meta(type):
        def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
            if not bases:
                return super().__new__(cls, name, bases, namespace)
            fields = tuple(namespace.get("__annotations__", ()))
            defaults = tuple([namespace.pop(field) for field in fields if field in namespace])
            for index, field in enumerate(fields):
                namespace[field] = field_at(index, None)
            homes: list[type[_Named]] = []
            new = _plain_new(homes, fields, defaults)
            namespace |= {"__slots__": (), "_fields": fields, "__match_args__": fields, "__new__": new}
            homes.append(type(name, (_Named,), namespace))
            return homes[0]

    class NamedTuple(metaclass=_Meta):
        """Base of classes whose annotations are the fields of a tuple, with defaults at the end."""
