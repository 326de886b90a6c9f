"""``btrimg resolve``: file offset -> device offsets."""

from __future__ import annotations

from btrimg.cli.command import Argument, command
from btrimg.cli.parameters import JSON, OPENING, SUBVOLUME, TARGET, open_inode, open_target
from btrimg.units import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from btrimg.cli.parameters import Target


@command(TARGET, Argument("offset", "OFFSET", parse_size), JSON, SUBVOLUME, *OPENING)
def resolve(target: Target, offset: int, as_json: bool, subvolume: int, **opening: Any) -> int:
    """Show where the byte at OFFSET of a file lies on every device.

    \b
      btrimg resolve disk.img:/var/lib/a.db 1MiB
      btrimg resolve disk1.img:/a -d disk2.img -d disk3.img 0x1000 --json
      btrimg resolve /mnt/file 4096

    "length" is how many bytes from there on are contiguous in the file and on every copy. For a compressed extent the
    addresses are those of the start of the compressed bytes. "refusal" says why a device page could not stand for the
    file page in a shared page cache.
    """
    from btrimg.render import answers

    with open_target(target, **opening) as image:
        answer = open_inode(image, target, subvolume).resolve(offset)
        print(answers.json_line(answers.resolution(answer)) if as_json else answers.resolution_text(answer))
    return 0
