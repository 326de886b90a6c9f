from __future__ import annotations

from btrimg.ondisk.chunks import Chunk, Stripe
from btrimg.ondisk.constants import BlockGroup
from btrimg.render.chunks import lines, rows, sort
from btrimg.render.sizes import Units

MIB, GIB = 1 << 20, 1 << 30


def chunk(kind: int, length: int, *stripes: tuple[int, int]) -> Chunk:
    placed = tuple(Stripe(devid, offset, bytes(16)) for devid, offset in stripes)
    return Chunk(length, 2, 65536, kind, 0, 0, 4096, len(placed), 1, placed)


CHUNKS = [
    (300 * MIB, chunk(BlockGroup.DATA | BlockGroup.RAID5, 128 * MIB, (2, 40 * MIB), (3, 9 * MIB), (1, 30 * MIB))),
    (100 * MIB, chunk(BlockGroup.SYSTEM | BlockGroup.DUP, 8 * MIB, (2, 20 * MIB), (2, 28 * MIB))),
    (500 * MIB, chunk(BlockGroup.DATA, GIB, (1, 1 * MIB))),
    (2 * GIB, chunk(1 << 30, MIB, (9, 0))),
]
USED = {300 * MIB: 32 * MIB, 100 * MIB: 16384, 500 * MIB: 1000 * MIB}


def test_rows_are_numbered_by_physical_and_by_logical_start_on_each_device() -> None:
    found = rows(CHUNKS, USED)
    assert [(r.devid, r.number, r.physical // MIB, r.logical_number, r.logical // MIB) for r in found] == [
        (1, 1, 1, 2, 500),
        (1, 2, 30, 1, 300),
        (2, 1, 20, 1, 100),
        (2, 2, 28, 2, 100),
        (2, 3, 40, 3, 300),
        (3, 1, 9, 1, 300),
        (9, 1, 0, 1, 2048),
    ]
    assert [(r.type, r.profile) for r in found[1:3]] == [("Data", "RAID5"), ("System", "DUP")]
    assert (found[1].length, found[1].stripe_length) == (128 * MIB, 64 * MIB)
    assert (found[6].type, found[6].profile, found[6].used, found[6].usage) == ("unknown", "single", None, 0.0)


def test_table_is_that_of_btrfs_progs() -> None:
    assert list(lines(rows(CHUNKS[1:3], USED), Units().text)) == [
        "Devid PNumber      Type/profile   PStart  Length     PEnd LNumber    LStart Usage%",
        "----- ------- ----------------- -------- ------- -------- ------- --------- ------",
        "    1       1       Data/single  1.00MiB 1.00GiB  1.00GiB       1 500.00MiB  97.66",
        "    2       1     System/DUP    20.00MiB 8.00MiB 28.00MiB       1 100.00MiB   0.20",
        "    2       2     System/DUP    28.00MiB 8.00MiB 36.00MiB       2 100.00MiB   0.20",
    ]


def test_the_first_sort_key_counts_most_and_others_keep_the_order() -> None:
    found = rows(CHUNKS, USED)
    sort(found, ["-usage", "devid"])
    assert [(r.devid, r.logical // MIB) for r in found] == [
        (1, 500), (1, 300), (2, 300), (3, 300), (2, 100), (2, 100), (9, 2048),
    ]  # fmt: skip
    sort(found, ["type", "-profile", "-pstart"])
    assert [(r.type, r.profile, r.physical // MIB) for r in found] == [
        ("Data", "RAID5", 40),
        ("Data", "RAID5", 30),
        ("Data", "RAID5", 9),
        ("Data", "single", 1),
        ("System", "DUP", 28),
        ("System", "DUP", 20),
        ("unknown", "single", 0),
    ]


def test_units() -> None:
    assert Units().text(1023) == "1023.00B"
    assert Units().text(1702842368) == "1.58GiB", "of 1623 MiB, as btrfs-progs have it; it is 1.586"
    assert Units(power=3).text(1702842368) == "1.59GiB"
    assert Units().text(3 << 29) == "1.50GiB"
    assert Units().text((1 << 64) - 1) == "16.00EiB"
    assert Units(raw=True).text(12345) == "12345"
    assert Units(decimal=True).text(999_999) == "1000.00kB"
    assert Units(decimal=True, power=2).text(1_234_567) == "1.23MB"
    assert Units(power=1).text(1 << 30) == "1048576.00KiB"
