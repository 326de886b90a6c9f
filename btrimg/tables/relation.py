"""What a relation is: a name, a sentence, and columns with type, unit and meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from btrimg.named import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection

    from btrimg.ondisk.constants import ItemType, TreeId

# What a number counts, or in which space it is an address.
BYTES, LOGICAL, PHYSICAL, FILE = "bytes", "logical", "physical", "file offset"
TRANSID, SECONDS, NANOSECONDS = "transid", "seconds", "nanoseconds"

SQL_TYPES = {  # by the name of the numpy dtype
    "u8": "UBIGINT",
    "u4": "UINTEGER",
    "u2": "USMALLINT",
    "u1": "UTINYINT",
    "i8": "BIGINT",
    "?": "BOOLEAN",
    "text": "VARCHAR",
    "bytes": "BLOB",
}


class Column(NamedTuple):
    """A column of a relation."""

    name: str
    type: str  #: key of SQL_TYPES
    comment: str
    unit: str = ""
    #: Of a text column with few values: all of them; what makes the rows gives indexes.
    words: tuple[str, ...] = ()

    @property
    def meaning(self) -> str:
        """Return the comment with the words that a row may hold."""
        words = ", ".join(filter(None, self.words))
        return f"{self.comment}: {words}" if words else self.comment


class Relation(NamedTuple):
    """A relation; a *tree* column is the first, and says in which tree the row's item stands."""

    name: str
    comment: str
    columns: tuple[Column, ...]
    tree: Column | None = None
    trees: tuple[TreeId, ...] = ()  #: whose leaves hold it; FS_TREE is every subvolume
    items: tuple[ItemType, ...] = ()  #: types of the items there that have rows

    @property
    def all_columns(self) -> tuple[Column, ...]:
        """Return the columns with that of the tree."""
        return (self.tree, *self.columns) if self.tree else self.columns

    def only(self, names: Collection[str]) -> Relation:
        """Return the relation with those of its columns that *names* has, and that of the tree."""
        return self._replace(columns=tuple(column for column in self.columns if column.name in names))


def u64(name: str, comment: str, unit: str = "") -> Column:
    """Return a column of u64."""
    return Column(name, "u8", comment, unit)


def u32(name: str, comment: str, unit: str = "") -> Column:
    """Return a column of u32."""
    return Column(name, "u4", comment, unit)


def u16(name: str, comment: str, unit: str = "") -> Column:
    """Return a column of u16."""
    return Column(name, "u2", comment, unit)


def u8(name: str, comment: str, unit: str = "") -> Column:
    """Return a column of u8."""
    return Column(name, "u1", comment, unit)


def i64(name: str, comment: str, unit: str = "") -> Column:
    """Return a column of i64."""
    return Column(name, "i8", comment, unit)


def text(name: str, comment: str, *words: str) -> Column:
    """Return a column of text; with *words*, of these only."""
    return Column(name, "text", comment, "", words)


def time(name: str, what: str) -> tuple[Column, Column]:
    """Return the two columns of a time."""
    return (
        i64(name, f"{what}, since 1970, negative before", SECONDS),
        u32(f"{name}_nsec", f"{what}, the fraction", NANOSECONDS),
    )
