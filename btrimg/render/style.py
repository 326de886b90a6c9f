"""What the text of a dump depends on besides the image."""

from __future__ import annotations

from btrimg.named import NamedTuple
from btrimg.ondisk.csum import CSUM_SIZES
from btrimg.render.names import escape


class Style(NamedTuple):
    """The few numbers of the superblock that items are read by, and what to show of them."""

    csum_type: int = 0
    sectorsize: int = 4096  #: bytes of data that one checksum stands for
    simple_quota: bool = False  #: the filesystem has Incompat.SIMPLE_QUOTA
    hide_names: bool = False  #: of files, subvolumes and xattrs; and the values of xattrs
    csum_headers: bool = False  #: show the checksum of each block
    csum_items: bool = False  #: show the checksums of data

    @property
    def csum_size(self) -> int:
        """Return the bytes of one checksum; of an unknown type, all that there is room for."""
        return CSUM_SIZES.get(self.csum_type, 32)

    def name(self, name: bytes) -> str:
        """Return *name* escaped, or a stand-in."""
        return "HIDDEN" if self.hide_names else escape(name)
