"""Text of many names at once against one at a time."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from btrimg.filesystem import strings
from btrimg.tables.utf8 import as_utf8, taken

NAMES = st.lists(st.binary(max_size=9) | st.text(max_size=5).map(str.encode) | st.sampled_from([b"\xc3", b"\xa9", b""]))


@given(NAMES)
@example([b"caf\xc3", b"\xa9"])  # a character only where two names meet
@example([b"\xe2\x82", b"", b"\xac"])
@example(["naïve".encode(), b"", "日本".encode()])
def test_bytes_that_are_not_utf8_are_written_out(names: list[bytes]) -> None:
    found = as_utf8(strings.of_list(names))
    assert found.to_list() == [name.decode("utf-8", "backslashreplace").encode() for name in names]


@given(NAMES, st.data())
def test_rows_are_taken_in_the_order_asked_for(names: list[bytes], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(names) - 1))) if names else []
    assert taken(strings.of_list(names), np.array(rows, np.int64)).to_list() == [names[row] for row in rows]
