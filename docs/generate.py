"""Write the pages that are derived from the program: ``python docs/generate.py``; ``--check`` fails on a stale one.

docs/format.md comes from the declarations in btrimg/ondisk: the classes give names, sizes and types, their
docstrings and the ``#:`` comments beside the fields give the meaning. docs/tables.md comes from the schema in
btrimg/tables, docs/checks.md from the rules and the schema in btrimg/check.
"""

from __future__ import annotations

import inspect
import io
import os
import sys
import tokenize
from itertools import groupby
from typing import TYPE_CHECKING, Any

from btrimg.check import schema as check_schema
from btrimg.check.rule import rules
from btrimg.enums import IntEnum, IntFlag
from btrimg.ondisk import constants
from btrimg.ondisk.constants import ItemType, TreeId
from btrimg.ondisk.generate import all_records
from btrimg.ondisk.items import ITEM_KINDS
from btrimg.tables.relation import SQL_TYPES
from btrimg.tables.schema import RELATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from btrimg.ondisk.record import Record
    from btrimg.tables.relation import Relation

HERE = os.path.dirname(os.path.abspath(__file__))

FORMAT_HEAD = """\
# The on-disk format

Every structure, item, tree id and flag that btrimg knows. Written by `docs/generate.py` from the declarations in
`btrimg/ondisk`, so the page says what the program does; do not edit it.

All integers are little endian and nothing is padded. Offsets and sizes are in bytes; the size of a structure is that
of its fixed part. *logical* is an address in btrfs's own space, *physical* one on a device, *transid* the number of a
commit. Unused fields and unknown bits are kept as found.
"""
TABLES_HEAD = """\
# The tables

What `btrimg sql` queries and `btrimg export-tables` writes. Written by `docs/generate.py` from
btrimg/tables/schema.py; do not edit it. Names and types stay as they are; columns may be added at the end.

The tables show the last commit: no log is replayed. A row is made of an item as it stands; what does not fit its type
is reported and in no row. A table with a column `subvolume` has a row for each subvolume and item, so what snapshots
share is in it several times. A subvolume whose deletion has begun to free blocks has no rows.

Only the trees are read that the tables of a query come from; `tree_blocks` reads every copy of every tree block, and
`physical` the extent tree. Rows are made in batches as the query goes over them, those of leaves that snapshots share
from one copy. `--memory` bounds what is held; more goes to temporary files in TMPDIR (else /var/tmp).

The unit is what a number counts, or the space that it is an address in: *logical* is a byte in btrfs's own space,
*physical* one on the device `devid`, *file offset* one in the file; *transid* is the number of a commit. Numbers
without unit are ids, counts and flags. There is no NULL: what an item does not say is 0 or empty. Names that are not
UTF-8 have `\\xNN` for each byte that is none.
"""
CHECKS_HEAD = """\
# The checks

What `btrimg check` judges. Written by `docs/generate.py` from btrimg/check; do not edit it. Each rule is a query over
the [tables](tables.md) and those below; `btrimg check --explain CODE` shows it. A warning alone does not make an
image unclean. *progs* is what `btrfs check` calls the same fault.
"""
_INTEGERS = {"B": "u8", "H": "u16", "I": "u32", "Q": "u64", "q": "s64"}


def format_page() -> str:
    """Return docs/format.md."""
    parts = [FORMAT_HEAD]
    for module, classes in groupby(all_records(), key=lambda cls: cls.__module__):
        parts.append(f"## {summary(sys.modules[module])}\n")
        parts += map(structure, classes)
    return "\n".join([*parts, items(), tree_ids(), *map(numbers, enums())])


def structure(cls: type[Record]) -> str:
    """Return the section of one Record: its docstring and a row for each field."""
    comments = field_comments(cls)
    names = {record.__name__ for record in all_records()}
    columns: Any = cls.dtype().fields
    rows = []
    for name, code in cls.FIELDS:
        kind, offset = columns[name][:2]
        rows.append((offset, kind.itemsize, f"`{name}`", type_of(code, names), comments.get(name, "")))
    for index, (name, code) in enumerate(cls.TAIL):
        rows.append((cls.SIZE if index == 0 else "…", "…", f"`{name}`", type_of(code, names), comments.get(name, "")))
    doc = inspect.getdoc(cls) or ""
    size = f"{cls.SIZE} bytes" + (", then what varies in length" if cls.TAIL else "")
    head = f"### {cls.__name__}\n\n{doc.replace('``', '`')}\n\n{size}.\n\n"
    return head + table(("Offset", "Size", "Field", "Type", "Meaning"), rows)


def type_of(code: str, records: Iterable[str]) -> str:
    """Return a field code (see btrimg/ondisk/record.py) as people write types."""
    if code.startswith("<"):
        counter, star, element = code[1:].partition("*")
        if not counter:
            return "bytes, to the end of the item"
        length = f"`{counter}`"
        return f"{type_of(element, records)} × {length}" if star else f"bytes × {length}"
    count, star, element = code.partition("*")
    if star:
        return f"{type_of(element, records)} × {count}"
    if code in records:
        return link(code)
    return _INTEGERS.get(code, "bytes")


def field_comments(cls: type[Record]) -> dict[str, str]:
    """Return the ``#:`` comment of each field that has one."""
    comments: dict[str, str] = {}
    name = ""
    for token in tokenize.generate_tokens(io.StringIO(inspect.getsource(cls)).readline):
        if token.type == tokenize.NAME and token.start[1] == 4:
            name = token.string
        elif token.type == tokenize.COMMENT and token.string.startswith("#: "):
            comments[name] = token.string[3:]
    return comments


def items() -> str:
    """Return the section on items: what stands behind each key type."""
    rows = []
    for key_type, kind in ITEM_KINDS.items():
        records = ", ".join(link(record.__name__) for record in kind.records)
        if kind.shortest is not None:
            records += f" (at least {kind.shortest} bytes of it)"
        rows.append((int(key_type), kind.name, ", ".join(tree.name for tree in kind.trees), records))
    head = (
        "## Items\n\nWhat each key type holds. FS_TREE stands for every tree of files, TREE_LOG for every log tree.\n\n"
    )
    return head + table(("Type", "Name", "Trees", "Records"), rows)


def tree_ids() -> str:
    """Return the section on tree ids, negative numbers as such."""
    rows = [(t if t < 1 << 63 else f"−{(1 << 64) - t}", t.name) for t in TreeId]
    return f"## Tree ids\n\n{summary(TreeId)}\n\n" + table(("Number", "Name"), rows)


def enums() -> Iterator[type[IntEnum | IntFlag]]:
    """Yield the enums of constants.py that have no section of their own."""
    for value in vars(constants).values():
        ours = inspect.isclass(value) and value.__module__ == constants.__name__
        if ours and issubclass(value, IntEnum | IntFlag) and value not in (TreeId, ItemType):
            yield value


def numbers(enum: type[IntEnum | IntFlag]) -> str:
    """Return the section of one enum: a number or a bit for each name."""
    flags = issubclass(enum, IntFlag)
    head = f"## {enum.__name__}\n\n{summary(enum)}\n\n"
    if flags:
        return head + table(("Bit", "Value", "Name"), [(m.value.bit_length() - 1, hex(m.value), m.name) for m in enum])
    return head + table(("Number", "Name"), [(m.value, m.name) for m in enum])


def summary(thing: object) -> str:
    """Return the first line of a docstring, in Markdown."""
    return (inspect.getdoc(thing) or "").partition("\n")[0].replace("``", "`").removesuffix(".")


def link(name: str) -> str:
    """Return a link to the section of a structure."""
    return f"[{name}](#{name.lower()})"


def table(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    """Return a Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def tables_page() -> str:
    """Return docs/tables.md."""
    return "\n".join([TABLES_HEAD, *map(relation_section, RELATIONS.values())])


def relation_section(relation: Relation) -> str:
    """Return the section of one relation: its comment and a row for each column."""
    rows = [(f"`{c.name}`", SQL_TYPES[c.type], c.unit, c.meaning) for c in relation.all_columns]
    return f"## {relation.name}\n\n{relation.comment}\n\n" + table(("Column", "Type", "Unit", "Meaning"), rows)


def checks_page() -> str:
    """Return docs/checks.md."""
    head = ("Code", "Severity", "Finds", "progs")
    found = [(f"[{r.code}](#{r.code})", r.severity, r.sentence, r.progs) for r in rules().values()]
    parts = [CHECKS_HEAD, table(head, found), "# Tables that only the checks have\n"]
    parts += map(relation_section, check_schema.RELATIONS.values())
    parts.append("# What the rules mean\n")
    for rule in rules().values():
        needs = "Only with `--data`. " if rule.needs_data else ""
        parts.append(f"## {rule.code}\n\n{needs}{rule.explain}\n\n```sql\n{rule.query}\n```\n")
    return "\n".join(parts)


PAGES: dict[str, Callable[[], str]] = {
    "format.md": format_page,
    "tables.md": tables_page,
    "checks.md": checks_page,
}


def read(path: str) -> str:
    """Return the text of a page, nothing of one that is not there."""
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as file:
        return file.read()


def main() -> None:
    """Write all pages, or with ``--check`` exit with a sentence when one is stale."""
    for name, page in PAGES.items():
        path, text = os.path.join(HERE, name), page()
        if "--check" not in sys.argv:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        elif read(path) != text:
            sys.exit(f"docs/{name} is stale: python docs/generate.py")


if __name__ == "__main__":
    main()
