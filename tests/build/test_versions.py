"""Releases of a package, one a snapshot of the other: fixtures/versions.py."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

from support.judges import complaints

import btrimg

if TYPE_CHECKING:
    from pathlib import Path

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIBRARY = random.Random("library").randbytes(300_000)


def wheel(directory: Path, version: str, files: dict[str, bytes]) -> str:
    path = directory / f"pack-{version}-py3-none-any.whl"
    info = f"pack-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: pack\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
        for name, data in files.items():
            archive.writestr(name, data)
    return str(path)


def extents(fs: btrimg.Image, path: bytes) -> list[int | None]:
    return [row.logical for row in fs.open(path).extents()]


def test_what_a_release_left_alone_stays_shared(tmp_path: Path) -> None:
    changed = LIBRARY[:200_000] + b"?" + LIBRARY[200_001:]
    old = wheel(tmp_path, "1.0", {"pack/a.so": LIBRARY, "pack/b.so": LIBRARY[::-1], "pack/gone.py": b"#" * 5000})
    new = wheel(tmp_path, "1.1", {"pack/a.so": changed, "pack/b.so": LIBRARY[::-1], "pack/new.py": b"#" * 6000})
    image = str(tmp_path / "pack.img")
    subprocess.run([sys.executable, os.path.join(ROOT, "fixtures/versions.py"), image, old, new], check=True)

    with btrimg.open(image) as fs:
        assert fs.open(b"/layer-1/pack/a.so").read(0, 1 << 20) == LIBRARY
        assert fs.open(b"/layer-2/pack/a.so").read(0, 1 << 20) == changed
        assert fs.open(b"/layer-2/pack.dist-info/METADATA").read(0, 1 << 20).endswith(b"Version: 1.1\n")
        names = {entry.name for entry, _ in fs.open(b"/layer-2/pack").entries()}
        assert names == {b"a.so", b"b.so", b"new.py"}
        assert extents(fs, b"/layer-1/pack/b.so") == extents(fs, b"/layer-2/pack/b.so")
        places = [fs.open(path).resolve(0).logical for path in (b"/layer-1/pack/a.so", b"/layer-2/pack/a.so")]
        assert places[0] == places[1], "blocks before the change are shared"
        places = [fs.open(path).resolve(200_000).logical for path in (b"/layer-1/pack/a.so", b"/layer-2/pack/a.so")]
        assert places[0] != places[1]
    assert complaints([image]) == []
