"""``btrimg mkfs``: what it makes, what it tells, what it refuses and leaves alone."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

import pytest
from support import kernel
from support.judges import complaints
from support.program import btrimg

from btrimg.cli.main import run
from btrimg.errors import BtrimgError
from btrimg.filesystem.image import open_image
from btrimg.ondisk.inodes import Timespec
from btrimg.units import MIB
from btrimg.write.features import FEATURES

if TYPE_CHECKING:
    from pathlib import Path

UUID = "01234567-89ab-4def-8123-456789abcdef"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)


def mkfs(*words: str) -> None:
    """Run the command in this process; errors are raised."""
    assert run(["mkfs", *words]) == 0


@pytest.mark.progs
@pytest.mark.kernel
def test_a_filesystem_as_asked_for() -> None:
    devices = ["1.img", "2.img", "3.img"]
    words = ["-d", "raid5", "-m", "raid1", "-n", "32K", "--csum", "xxhash", "-L", "three", "-O", "^no-holes,^bgt"]
    done = btrimg("mkfs", *devices, "-b", "100M", *words, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    expected = {"label": "three", "nodesize": 32768, "sectorsize": 4096, "csum": "xxhash64"}
    expected |= {"data": "raid5", "metadata": "raid1", "mixed": False}
    expected |= {"features": ["extref", "raid56", "skinny-metadata", "free-space-tree"]}
    assert expected.items() <= told.items()
    assert [(each["device"], each["size"]) for each in told["devices"]] == [(path, 100 * MIB) for path in devices]
    with open_image(devices) as image:
        assert image.superblock.fsid.hex() == told["fsid"].replace("-", "")
        assert image.superblock.label.rstrip(b"\0") == b"three"
        uuids = [stripe.dev_uuid.hex() for chunk in image.volume.chunk_map for stripe in chunk.stripes]
        assert set(uuids) == {each["uuid"].replace("-", "") for each in told["devices"]}
    assert complaints(devices) == []
    assert sorted(os.listdir()) == devices


def test_a_seed_and_a_clock_give_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "7")
    mkfs("first", "-b", "48M", "--seed", "a")
    mkfs("second", "-b", "48M", "--seed", "a")
    mkfs("unseeded", "-b", "48M")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "-8")
    mkfs("earlier", "-b", "48M", "--seed", "a")
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    mkfs("start", "-b", "48M", "--seed", "a")
    contents = {}
    for path in ("first", "second", "unseeded", "earlier", "start"):
        with open(path, "rb") as file:
            contents[path] = file.read()
    assert contents["first"] == contents["second"]
    assert len(set(contents.values())) == 4
    for path, time in (("first", 7), ("unseeded", 7), ("earlier", -8), ("start", 0)):
        with open_image(path) as image:
            assert image.open(b"/").item.mtime == Timespec(time, 0)


def test_what_is_there_is_kept_without_force() -> None:
    with open("disk.img", "wb") as file:
        file.truncate(64 * MIB)
    done = btrimg("mkfs", "disk.img")
    assert (done.returncode, done.stdout) == (2, "")
    assert "exists" in done.stderr
    assert "--force" in done.stderr
    mkfs("disk.img", "--force", "-U", UUID, "--device-uuid", UUID.upper().replace("0", "f"))
    with pytest.raises(BtrimgError, match="raid1 for data needs 2 devices, not 1"):
        mkfs("disk.img", "--force", "-d", "raid1")
    with open_image("disk.img") as image:
        assert image.superblock.total_bytes == 64 * MIB, "as large as it was"
        assert image.superblock.fsid.hex() == UUID.replace("-", "")
        assert image.superblock.dev_item.uuid.hex() == UUID.replace("-", "").replace("0", "f")


@pytest.mark.kernel
@pytest.mark.progs
def test_block_devices_are_made_blank_and_what_is_in_use_is_refused() -> None:
    with open("disk.img", "wb") as file:
        file.write(os.urandom(1 << 16))
        file.truncate(80 * MIB)
    with kernel.loop_devices(["disk.img"]) as (device,):
        with pytest.raises(BtrimgError, match="is not blank: give --force"):
            mkfs(device)
        mkfs(device, "--force", "-b", "70M")
        with pytest.raises(BtrimgError, match=f"is attached to {device}"):
            mkfs("disk.img", "--force")
    with open_image("disk.img") as image:
        assert image.superblock.total_bytes == 70 * MIB
    assert complaints(["disk.img"]) == []
    with kernel.mount(["disk.img"]) as where:
        with open("/proc/mounts", encoding="utf-8") as mounts:
            device = next(line.split()[0] for line in mounts if line.split()[1] == where)
        with pytest.raises(BtrimgError, match="mounted"):
            mkfs(device, "--force")


REFUSED = [
    (["new.img"], "'new.img' does not exist: say with -b how large to make it"),
    (["-b", "1G"], "name a file or block device"),
    (["new.img", "-b", "1M"], "is too small for these profiles: take at least"),
    (["new.img", "-b", "1G", "-U", "xyz"], "'xyz' is no uuid"),
    (["1.img", "2.img", "-b", "1G", "--device-uuid", UUID], "--device-uuid is for one device"),
    (["new.img", "-b", "1G", "-O", "quota"], "btrimg does not make filesystems with quota"),
    (["new.img", "-b", "1G", "-L", "a\nb"], "holds a newline or a NUL"),
    (["new.img", "./new.img", "-b", "1G"], "is named twice"),
    (["no/new.img", "-b", "1G"], "cannot make"),
    (["/dev/null", "-b", "1G", "-f"], "/dev/null"),
]


@pytest.mark.parametrize(("words", "sentence"), REFUSED, ids=[sentence for _, sentence in REFUSED])
def test_refusals_are_one_sentence_and_leave_nothing(words: list[str], sentence: str) -> None:
    with pytest.raises(BtrimgError, match=re.escape(sentence)) as caught:
        mkfs(*words)
    assert "\n" not in str(caught.value)
    assert os.listdir() == []


@pytest.mark.parametrize("epoch", ["today", str(1 << 63), "1" * 5000])
def test_a_clock_that_is_none_is_refused(epoch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    with pytest.raises(BtrimgError, match="it must be a number of seconds since 1970"):
        mkfs("new.img", "-b", "1G")


def test_all_features_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    mkfs("-O", "list-all")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [feature.name for feature in FEATURES]
