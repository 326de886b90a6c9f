"""Lines are told for all that tomllib finds, whatever way it is written."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from btrimg.build.lines import lines_of

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENT = (
    '''\
# [[do]] in a comment
about = """
[[do]]
"quoted\\""" \\
"""
path = 'C:\\[[x]]' # "
"a \\u0041".'b'.c = {x = [1, 2], "y" = {}}

[[do]]
file = "/a"
[do.xattrs]
user = '''
    + """'''
[[do]]
'''''"""
    + '''
[[do]]
when = 1979-05-27 07:32:00Z
parts = [
    {text = "a"}, # }]

    {text = """
two""", n = [[], [1,
2]]},
]
[[do.do]]
[[do.do]]
deep.er = 1.5e3
[ filesystem . "size" ]
'''
)


def paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    if isinstance(value, dict):
        for key, each in value.items():
            yield from paths(each, (*path, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from paths(each, (*path, index))


def test_every_value_has_its_line() -> None:
    lines = lines_of(DOCUMENT)
    assert set(lines) == set(paths(tomllib.loads(DOCUMENT)))
    assert lines["about",] == 2
    assert lines["path",] == 6
    assert lines["a A", "b", "c", "y"] == 7
    assert lines["do", 0, "file"] == 10
    assert lines["do", 0, "xattrs"] == 11
    assert lines["do", 1] == 15
    assert lines["do", 1, "parts", 1] == 20
    assert lines["do", 1, "parts", 1, "n", 1, 0] == 21
    assert lines["do", 1, "parts", 1, "n", 1, 1] == 22
    assert lines["do", 1, "do", 1, "deep", "er"] == 26
    assert lines["filesystem", "size"] == 27


def test_lines_that_end_as_on_windows_count_once() -> None:
    assert lines_of("a = 1\r\nb = '''x\r\ny'''\r\nc = 2\r\n")["c",] == 4


KEYS = st.sampled_from(["do", "a", "b-c", '"q.\\"]"', "'[[x]]'"])
SCALARS = st.sampled_from(
    ["1", "'#'", '"\\"]}"', "'''\n'' [[a]]\n'''''", '"""\\\n""\\""" x""""', "1979-05-27 07:32:00", "inf", "0x1_f"]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda each: "[ # ]\n" + ",\n\n".join(each) + " ]")
        | st.lists(st.tuples(KEYS, inner), max_size=3, unique_by=lambda pair: pair[0]).map(
            lambda pairs: "{" + ", ".join(f"{key} = {value}" for key, value in pairs) + "}"
        )
    ),
    max_leaves=8,
)
HEADERS = st.lists(KEYS, min_size=1, max_size=2).map(".".join)
LINES = (
    st.tuples(KEYS, VALUES).map(lambda pair: f"{pair[0]} = {pair[1]}")
    | HEADERS.map(lambda keys: f"[[ {keys} ]]")
    | HEADERS.map(lambda keys: f"[{keys}] # [[do]]")
    | st.just("# x = 1")
)


@given(st.lists(LINES, max_size=12).map("\n".join))
def test_lines_and_values_have_the_same_paths(text: str) -> None:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    lines = lines_of(text)
    assert set(lines) == set(paths(document))
    starts = text.split("\n")
    for path, line in lines.items():
        if path and isinstance(path[-1], str):
            key = path[-1]
            shown = json.dumps(key) if key.isascii() and '"' in key else key
            assert shown in starts[line - 1], path
