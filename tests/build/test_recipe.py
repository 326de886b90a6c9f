"""What recipes say, and what is told of those that cannot be."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btrimg.build import values
from btrimg.build.filesystem import KEYS as KEYS_OF_FILESYSTEM
from btrimg.build.filesystem import options_of
from btrimg.build.grammar import VERBS
from btrimg.build.readers import read_bytes, read_time
from btrimg.build.recipe import Recipe, parse_recipe
from btrimg.build.values import Attributes, Content, Part, Storage
from btrimg.errors import RecipeError
from btrimg.ondisk.constants import BlockGroup, Compression, CsumType, InodeFlag
from btrimg.ondisk.inodes import Timespec
from btrimg.write.uuids import seeded


def parse(text: str) -> Recipe:
    return parse_recipe(text.encode(), "x.toml")


def operations(text: str) -> list[Any]:
    return [operation for _, operation in parse(text).operations()]


def complaint(text: str) -> str:
    with pytest.raises(RecipeError) as caught:
        for _ in parse(text).operations():
            pass
    return str(caught.value)


def test_a_filesystem_has_all_that_the_table_says() -> None:
    recipe = parse("""
        [filesystem]
        size = "1G"
        devices = ["2G", {uuid = "00000000-0000-4000-8000-000000000002"}, {size = 0x60000000}]
        data = "raid5"
        metadata = "raid1c3"
        features = ["^no-holes", "^block-group-tree"]
        csum = "blake2"
        nodesize = "32K"
        label = 'caf\\xe9'
        uuid = "0b7f5000-de30-4000-8000-00000000b7f5"
        clock = 2024-02-29T12:00:00Z
        compress = "zstd:-3"
    """)
    filesystem = recipe.filesystem
    assert filesystem.clock == Timespec(1709208000, 0)
    assert filesystem.compress == (Compression.ZSTD, -3)
    options = options_of(filesystem)
    assert [device.size for device in options.devices] == [2 << 30, 1 << 30, 3 << 29]
    assert options.devices[1].uuid == bytes([0] * 6 + [0x40, 0, 0x80] + [0] * 6 + [2])
    assert (options.data, options.metadata) == (BlockGroup.RAID5, BlockGroup.RAID1C3)
    assert (options.csum, options.nodesize, options.label) == (CsumType.BLAKE2B, 32768, b"caf\xe9")
    assert options.fsid.hex() == "0b7f5000de30400080000000" + "0000b7f5"


def test_uuids_come_from_the_seed_else_from_the_text() -> None:
    first, second = [options_of(parse(f"about = '{about}'\nfilesystem.seed = 7").filesystem) for about in "ab"]
    assert first == second
    unseeded = [options_of(parse(f"about = '{about}'").filesystem) for about in "ab"]
    assert unseeded[0].fsid != unseeded[1].fsid
    source = seeded(b"7")
    assert first.fsid == source()
    assert first.chunk_tree_uuid == source()


def test_operations_come_in_order_with_all_that_they_say() -> None:
    found = operations("""
        do = [
            {subvolume = "/home", owner = 1000},
            {file = "/home/a", text = 'x\\x00\\\\', size = "1M", mode = 0o4755, nodatacow = true},
            {file = "/home/b", random = "8K", compress = "zlib:9", at = {devid = 2, physical = "64M"}, pieces = 2},
            {write = "/home/b", offset = "4K", pattern = "ab", size = 5, compress = "none"},
            {reflink = "/home/c", from = "/home/b", from-offset = 4096, length = 4096, offset = 8192},
            {reflink = "/home/c", from = "."  , length = 4096, offset = "1M"},
            {chardev = "/null", device = "1:3"},
            {snapshot = "/monday", of = "/home", readonly = true},
            {extent = "e", prealloc = "1M"},
            {delete = "/home", recursive = true},
            {set = "/monday", readonly = false, xattrs = {"user.b" = "1", "user.a" = {hex = "00 ff"}}},
        ]
    """)
    assert found[0] == values.MakeSubvolume(b"/home", None, Attributes(uid=1000, gid=1000))
    nocow = Storage(nodatacow=True, nodatasum=True)
    flags = InodeFlag.NODATACOW | InodeFlag.NODATASUM
    part = Part("data", 0, 3, Content("bytes", b"x\0\\", 3), nocow)
    assert found[1] == values.MakeFile(b"/home/a", (part,), 1 << 20, nocow, Attributes(mode=0o4755, flags=flags))
    storage = found[2].parts[0].storage
    assert storage == Storage(values.Compression(Compression.ZLIB, 9), pieces=2, at=values.Place(64 << 20, 2))
    assert found[3] == values.Write(b"/home/b", 4096, Content("pattern", b"ab", 5), Storage(values.Compression(0)))
    assert found[4] == values.Reflink(b"/home/c", b"/home/b", 4096, 4096, 8192)
    assert found[5].source == b""
    assert found[6].device == (1, 3)
    assert found[7] == values.MakeSnapshot(b"/monday", b"/home", True, None)
    assert found[8] == values.DefineExtent(b"e", None, 1 << 20, Storage())
    assert found[9] == values.Delete(b"/home", True)
    assert found[10].attributes.xattrs == (
        (b"user.a", Content("bytes", b"\0\xff", 2)),
        (b"user.b", Content("bytes", b"1", 1)),
    )


def test_counters_are_filled_into_names_and_numbers() -> None:
    found = operations("""
        [[do]]
        repeat = {day = 2}
        do = [
            {write = "/log", offset = "{day*4K}", text = "{day}"},
            {file = "/{day}-{n:03}-{(n+1)*16%7:x}", repeat = 3, size = "{n*n}", mtime = "{day}.5"},
            {mkdir = '/\\x7bday}'},
        ]
    """)
    assert [each.path for each in found] == [
        *(b"/log", b"/0-000-2", b"/0-001-4", b"/0-002-6", b"/{day}"),
        *(b"/log", b"/1-000-2", b"/1-001-4", b"/1-002-6", b"/{day}"),
    ]
    assert found[5].offset == 4096
    assert found[8].size == 4
    assert found[8].attributes.mtime == Timespec(1, 500_000_000)


def test_an_entry_knows_its_line_and_what_its_random_bytes_depend_on() -> None:
    recipe = parse("""
        do = [
            {mkdir = "/a"},
            {repeat = {i = 2}, do = [
                {mkdir = "/{i}"},
                {mkdir = "/{i}{n}", repeat = 2},
            ]},
        ]""")
    entries = [(entry.line, entry.label, entry.text) for entry, _ in recipe.operations()]
    assert entries[0] == (3, "0", "mkdir '/a'")
    assert entries[1] == (5, "1.0:i=0", "mkdir '/0'")
    assert entries[-1] == (6, "1.1:i=1,n=1", "mkdir '/11'")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("do = [\n{fiel = '/a'}]", "line 2: says no operation: write one of mkdir, file"),
        ("do = [{file = '/a',\ntext = 'x'}]", "line 1: is no TOML"),
        ("[[do]]\nfile = '/a'\n\ncompres = 'zlib'", "line 4: file '/a': 'compres' is no key of file: did you mean"),
        ("[[do]]\nfile = '/a'\nmode = 0o77777", "line 3: file '/a': mode: must be from 0 to 0o7777, not 0o77777"),
        ("[[do]]\nfile = 'a'", "line 1: file 'a': must begin with /"),
        ("[[do]]\nfile = '/a/../b'", "'..' is no name in a path"),
        ("[[do]]\nfile = '/a'\ntext = ''\nhex = ''", "line 1: file '/a': text and hex exclude each other"),
        ("[[do]]\nfile = '/a'\ntext = 'ab'\nsize = 1", "size 1 is less than the content's 2"),
        ("[[do]]\nfile = '/a'\ntext = 5", "line 3: file '/a': text: must be text, not an integer"),
        ("[[do]]\nfile = '/a'\ntext = '\\e'", "text: \\e means nothing"),
        ("[[do]]\nfile = '/a'\nowner = '1:x'", "line 3: file '/a': owner: '1:x' is no owner: write \"UID:GID\""),
        ("[[do]]\nfile = '/a'\nmtime = 1979-05-27T07:32:00", "line 3: file '/a': mtime: a time needs an offset"),
        ("[[do]]\nfile = '/a'\nmtime = 1979-05-27", "line 3: file '/a': mtime: a time has a date, a time of day and"),
        ("[[do]]\nfile = '/a'\nmtime = '1979-05-27T07:32:00+24:00'", "mtime: '1979-05-27T07:32:00+24:00' is no time"),
        ("[[do]]\nfile = '/a'\ncompress = 'lzo:1'", "compress: lzo has no levels"),
        ("[[do]]\nfile = '/a'\ncompress = 'zstd:16'", "'16' is no level of zstd: take -15 to 15"),
        ("[[do]]\nfile = '/a'\ntext = 'a'\ninline = true\npieces = 2", "inline content has no place of its own"),
        ("[[do]]\nfile = '/a'\nnodatacow = true\ncompress = 'zstd'", "what has no checksums is never compressed"),
        (
            "[[do]]\nfile = '/a'\nparts = [\n{hole = 1},\n{hole = 1, text = 'a'}]",
            "line 5: file '/a': parts: a part is content",
        ),
        (
            "[[do]]\nfile = '/a'\nparts = [\n{hole = 1, pieces = 2}]",
            "line 4: file '/a': parts: pieces does not go with hole",
        ),
        ("[[do]]\nfile = '/a'\n[do.xattrs]\n'user.a' = 5", "line 4: file '/a': xattrs: user.a: must be text"),
        ("[[do]]\nsnapshot = '/a'", "line 1: snapshot '/a': snapshot needs of"),
        ("[[do]]\nchardev = '/a'\ndevice = '5000:1'", "is no device: write"),
        ("[[do]]\nmkdir = '/{n}'\nrepeat = 0", "line 3: mkdir '/{n}': repeat must be at least 1, not 0"),
        ("[[do]]\nmkdir = '/{m}'\nrepeat = 2", "mkdir '/{m}': {m} is no sum: m is no counter (there is n)"),
        ("[[do]]\nmkdir = '/{n+}'\nrepeat = 2", "{n+} is no sum: a number or counter is missing"),
        ("[[do]]\nmkdir = '/{1/n}'\nrepeat = 2", "{1/n} is no sum: it divides by 0"),
        (f"[[do]]\nmkdir = '/{{{'+'.join('n' * 5000)}}}'\nrepeat = 2", "a sum of 9999 numbers and signs is too long"),
        (f"[[do]]\nmkdir = '/{{{'*'.join(['(n+9)'] * 30)}}}'\nrepeat = 2", "a sum comes to a number of 96 bits"),
        ("[[do]]\nfile = '/a'\nsize='{5-n}'\nrepeat = 9", "line 3: file '/a': size: '-3' is negative"),
        ("[[do]]\nrepeat = 2\ndo = [{mkdir = '/{n}', repeat = 2}]", "line 3: mkdir '/{n}': n counts already"),
        ("[[do]]\nrepeat = 2\nmkdir = '/a'\ndo = []", "line 3: mkdir '/a': 'mkdir' is no key of a group"),
        ("[filesystem]\nlabel = 'a'\ncsum = 'md5'", "line 3: no checksum is called 'md5'"),
        ("filesystem.size = '1M'", "line 1: device 1 of 1048576 bytes is too small"),
        (
            "\n[filesystem]\ndevices = 2\n\ndata = 'raid10'\nmetadata='raid6'",
            "line 6: raid6 for metadata needs 3 devices, not 2",
        ),
        (
            "[filesystem]\ndevices = [\n'1G',\n{sice = 1}]",
            "line 4: devices: 'sice' is no key of a device: did you mean",
        ),
        ("[filesystem]\nlabel = 'a'\nnodesize = '3K'", "line 3: a node size of 3072 cannot be"),
        ("[filesystem]\nmixed = true\nnodesize = '8K'", "line 2: mixed block groups need a node size equal"),
        ("[filesystem]\nsize = '1G'\nlabel = \"a\\nb\"", "line 3: the label b'a\\nb' holds a newline"),
        ("[filesystem]\nseed = 1\nfeatures = ['zoned']", "line 3: btrimg does not make filesystems with zoned"),
        ("[filesystem]\nseed = 1\nsize = '1M'", "line 3: device 1 of 1048576 bytes is too small"),
        (
            "[filesystem]\nseed = 1\nuuid = '00000000-0000-0000-0000-000000000000'",
            "line 3: the uuid of the filesystem is",
        ),
        ("[filesystem]\nslack = 5", "line 2: slack goes with shrink"),
        ("[filesystem]\nclock = 'noon'", "line 2: clock: 'noon' is no time"),
        ("x = 1", "line 1: 'x' is no part of a recipe"),
        ("a = " + "9" * 5000, "line 1: is no TOML"),
        ("\n\na = " + "[" * 5000, "line 1: arrays and tables are nested too deep"),
    ],
)
def test_what_is_wrong_is_told_with_line_and_entry(text: str, told: str) -> None:
    said = complaint(text)
    assert said.startswith("x.toml, line ")
    assert told in said, said


def test_bytes_that_are_no_text_are_told_with_their_line() -> None:
    with pytest.raises(RecipeError, match=r"x.toml, line 2: is not UTF-8"):
        parse_recipe(b"a = 1\nb = '\xff'", "x.toml")


def test_an_edit_of_an_image_makes_no_filesystem() -> None:
    with pytest.raises(RecipeError, match="'filesystem' is no part of a recipe: it has about and do"):
        parse_recipe(b"[filesystem]", "x.toml", is_edit=True)


def test_the_examples_of_the_page_are_recipes() -> None:
    page = os.path.join(os.path.dirname(__file__), "../../docs/recipes.md")
    with open(page, encoding="utf-8") as file:
        examples = re.findall(r"```toml\n(.*?)```", file.read(), re.DOTALL)
    assert len(examples) >= 5
    for example in examples:
        assert operations(example)


def test_the_page_names_every_verb_and_key() -> None:
    page = os.path.join(os.path.dirname(__file__), "../../docs/recipes.md")
    with open(page, encoding="utf-8") as file:
        words = set(re.findall(r"[a-z][a-z-]*", " ".join(re.findall(r"`([^`]*)`", file.read()))))
    known = VERBS.keys() | KEYS_OF_FILESYSTEM.keys() | {key for verb in VERBS.values() for key in verb.keys}
    assert known - words == set()


@given(st.binary(max_size=40))
def test_every_name_can_be_written(name: bytes) -> None:
    text = "".join(chr(byte) if 32 < byte < 127 and byte != 92 else f"\\x{byte:02x}" for byte in name)
    assert read_bytes(text) == name


@given(st.integers(-(10**11), 10**11), st.integers(0, 999_999_999))
def test_every_time_can_be_written(seconds: int, nanoseconds: int) -> None:
    total = seconds * 10**9 + nanoseconds
    sign, size = "-" if total < 0 else "", abs(total)
    assert read_time(f"{sign}{size // 10**9}.{size % 10**9:09}") == Timespec(seconds, nanoseconds)


@given(st.datetimes(timezones=st.just(UTC)), st.integers(-14 * 60, 14 * 60))
def test_dates_with_offsets_are_what_python_says(moment: datetime, minutes: int) -> None:
    moment = moment.replace(microsecond=0)
    offset = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
    shown = moment.strftime("%Y").zfill(4) + moment.strftime("-%m-%dT%H:%M:%S")
    expected = round(moment.timestamp()) - minutes * 60
    assert read_time(f"{shown}.25{offset}") == Timespec(expected, 250_000_000)


# Whatever TOML says: a recipe, or an error that names a line.
KEYS = sorted({key for verb in VERBS.values() for key in verb.keys} | VERBS.keys() | {"repeat", "do", "x"})
TEXTS = st.sampled_from(
    [
        "",
        "/",
        "/a",
        "/a/{n}",
        "{n*4K}",
        "{",
        "{n/0}",
        "4K",
        "-1",
        "zstd:3",
        "0:0",
        "user.a",
        "n",
        ".",
        "\\xff",
        "\\",
        "\0",
    ]
)
TOML_VALUES = st.recursive(
    st.one_of(TEXTS, st.booleans(), st.integers(-3, 9), st.sampled_from([0.5, 2**64, 10**30, 0o777])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)
ENTRIES = st.builds(
    lambda verb, subject, keys: {verb: subject, **keys},
    st.sampled_from(sorted(VERBS)),
    TEXTS,
    st.dictionaries(st.sampled_from(KEYS), TOML_VALUES, max_size=3),
)


def toml(value: Any) -> str:
    if isinstance(value, str):
        return '"' + "".join(char if char.isalnum() else f"\\u{ord(char):04x}" for char in value) + '"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[\n" + ",\n".join(map(toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(each)}" for key, each in value.items()) + "}"
    return str(value)


def names_a_line(error: RecipeError) -> bool:
    return re.match(r"x\.toml, line [1-9]\d*: .*\S", str(error), re.DOTALL) is not None


@given(st.lists(ENTRIES, max_size=3) | TOML_VALUES, st.dictionaries(st.sampled_from(["size", "x"]), TOML_VALUES))
def test_any_toml_is_a_recipe_or_an_error_with_a_line(entries: Any, filesystem: Any) -> None:
    text = f"filesystem = {toml(filesystem)}\ndo = {toml(entries)}"
    try:
        for entry, _ in parse(text).operations():
            assert entry.line is not None
            assert entry.line <= text.count("\n") + 1
    except RecipeError as error:
        assert names_a_line(error)  # noqa: PT017


@given(st.text(alphabet="[]{}=\"'\\#\n,.a1 ") | st.text())
def test_any_text_is_a_recipe_or_an_error_with_a_line(text: str) -> None:
    try:
        parse_recipe(text.encode("utf-8", "surrogatepass"), "x.toml")
    except RecipeError as error:
        assert names_a_line(error)  # noqa: PT017
