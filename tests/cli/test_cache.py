"""``btrimg cache census`` and ``cache estimate``, as a person at a shell runs them."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
from support.program import btrimg

from btrimg.cli.cache_estimate import parse_plot
from btrimg.cli.cache_options import SCHEME_NAMES, parse_domain, parse_scheme
from btrimg.errors import UnsupportedError
from btrimg.pagecache.comparing import EqualSums
from btrimg.pagecache.estimate import Estimate, SchemeEstimate
from btrimg.pagecache.schemes import SCHEMES
from btrimg.render import plot
from btrimg.render.sharing import Answer, estimate_lines
from btrimg.render.sizes import Units

if TYPE_CHECKING:
    from pathlib import Path

KIB = 1024


def answer(*words: object) -> Any:
    done = btrimg("cache", *words, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return lines[0] if len(lines) == 1 else lines


def by_name(found: Any) -> dict[str, Any]:
    return {each["scheme"]: each for each in found["schemes"]}


def test_the_names_of_schemes_are_those_there_are() -> None:
    assert tuple(SCHEMES) == SCHEME_NAMES
    assert parse_scheme("extent") == "extent"
    with pytest.raises(ValueError, match="'extant' is no scheme; there are none, inode, device-posted"):
        parse_scheme("extant")


def test_an_estimate_as_json_and_as_text(demo_image: str) -> None:
    found = answer("estimate", demo_image)
    assert found["sharers"] == ["/", "/vm", "/vm-monday"]
    assert found["files"] == 12
    schemes = by_name(found)
    assert list(schemes) == list(SCHEMES)
    # Of 4 MiB and a copy of them in each of /vm and its snapshot, and what is in /files.
    assert found["unshared"] == schemes["none"]["shared"] == schemes["inode"]["shared"]
    for each in schemes.values():
        assert each["saved"] == found["unshared"] - each["shared"]
        assert each["saved_percent"] == round(100 * each["saved"] / found["unshared"], 2)
        assert each["curve"][-1] == each["shared"]
        assert each["curve"] == sorted(each["curve"])
        assert "domains_cost" not in each
    assert schemes["extent"]["refused"] == {"inline": 8 * KIB, "prealloc": 240 * KIB, "nodatacow": 32 * KIB}
    text = btrimg("cache", "estimate", demo_image, "--raw").stdout
    for name in list(SCHEMES)[1:]:
        row = re.search(rf"^{name} +(\d+) +(\d+) +(\d+) +([\d.]+)$", text, re.MULTILINE)
        assert row
        each = schemes[name]
        assert [*map(int, row.groups()[:3])] == [found["unshared"], each["shared"], each["saved"]]
        assert float(row[4]) == pytest.approx(each["saved_percent"], abs=0.06)
    assert f"holes: {found['holes']} of zeros left out" in text
    assert f"device-posted: {sum(found['posted']['wrong'].values())} read wrong" in text
    curve = [each["curve"][1] for each in list(schemes.values())[1:]]
    assert re.search(r"^2 +" + " +".join(map(str, curve)) + "  /vm$", text, re.MULTILINE)


def test_shares_of_each_sharer_add_up(demo_image: str) -> None:
    found = answer("estimate", demo_image, "--by-sharer")
    extent = by_name(found)["extent"]
    assert [each["sharer"] for each in found["shares"]] == found["sharers"]
    assert sum(each["first"] for each in found["shares"]) == extent["shared"]
    assert sum(each["proportional"] for each in found["shares"]) == pytest.approx(extent["shared"], abs=3)
    # The snapshot has nothing of its own; of the disk one block was written since.
    assert [each["freed"] for each in found["shares"]] == [found["shares"][0]["used"], 4 * KIB, 0]
    text = btrimg("cache", "estimate", demo_image, "--by-sharer", "--raw").stdout.splitlines()
    last = found["shares"][2]
    assert text[-1].split() == [*(str(last[name]) for name in ("used", "first", "proportional", "freed")), "/vm-monday"]


def test_paths_are_sharers_in_the_order_given(demo_image: str) -> None:
    found = answer("estimate", f"{demo_image}:/vm-monday", f"{demo_image}:/vm/clone.raw", f"{demo_image}:/vm")
    assert found["sharers"] == [f"{demo_image}:/vm-monday", f"{demo_image}:/vm/clone.raw", f"{demo_image}:/vm"]
    assert found["files"] == 6
    extent, inode = by_name(found)["extent"]["curve"], by_name(found)["inode"]["curve"]
    # The clone is as it was in the snapshot; of the disk one block was written since.
    assert (extent[1], extent[2]) == (extent[0], extent[0] + 4 * KIB)
    assert inode[0] < inode[1] < inode[2] == 2 * inode[0]


def test_domains_cost_what_they_keep_apart(demo_image: str) -> None:
    free = by_name(answer("estimate", demo_image))
    apart = by_name(answer("estimate", demo_image, "--domain", "a=/vm", "--domain", "b=257,5"))
    for name, each in apart.items():
        assert each["domains_cost"] == each["shared"] - free[name]["shared"]
    assert apart["inode"]["domains_cost"] == 0
    assert apart["extent"]["domains_cost"] > 4 << 20
    assert by_name(answer("estimate", demo_image, "--domain", "all=5,256,257"))["extent"]["domains_cost"] == 0
    text = btrimg("cache", "estimate", demo_image, "--domain", "a=/vm", "--raw").stdout
    row = re.search(r"^extent +\d+ +\d+ +\d+ +[\d.]+ +(\d+)$", text, re.MULTILINE)
    assert row
    assert int(row[1]) == apart["extent"]["domains_cost"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--domain", "a=/files"), "'/files' is no subvolume"),
        (("--domain", "a=777"), "there is no subvolume 777"),
        (("--domain", "a=/vm", "--domain", "b=256"), "subvolume 256 cannot be in both 'a' and 'b'"),
        (("--domain", "a"), "'a' is no trust domain; write NAME=SUBVOLUME,SUBVOLUME with ids or paths"),
        (("--plot", "curve.pdf"), "'curve.pdf' ends neither in .svg nor in .png"),
    ],
)
def test_what_cannot_be_is_told(demo_image: str, words: tuple[str, ...], told: str) -> None:
    done = btrimg("cache", "estimate", demo_image, *words)
    assert done.returncode in (1, 2)
    assert told in done.stderr
    assert done.stdout == ""


def test_images_and_paths_are_not_mixed(demo_image: str) -> None:
    done = btrimg("cache", "estimate", demo_image, f"{demo_image}:/vm")
    assert (done.returncode, done.stdout) == (2, "")
    assert "name the image, or paths in it, not both" in done.stderr


def test_a_census_as_json_and_as_text(demo_image: str) -> None:
    found = answer("census", demo_image)
    assert [each["scheme"] for each in found] == ["device-posted", "device", "extent"]
    for each in found:
        assert each["shared"] + each["alone"] + sum(each["refused"].values()) == each["total"]
    assert found[1]["refused"]["compressed"] == 512 * KIB
    assert "compressed" not in found[2]["refused"]
    assert sum(found[0]["wrong"].values()) == found[0]["shared"] + found[0]["alone"]
    text = btrimg("cache", "census", demo_image, "--raw").stdout.splitlines()
    assert text[0].split() == ["Outcome", "device-posted", "device", "extent"]
    rows = {line[:24].strip(): line[24:].split() for line in text[1:]}
    assert rows["shared"] == [str(each["shared"]) for each in found]
    assert rows["compressed"] == ["-", str(512 * KIB), "-"]
    only = answer("census", f"{demo_image}:/files", "--scheme", "content")
    assert only["total"] < found[0]["total"]
    assert only["scheme"] == "content"


def test_a_domain_as_it_is_typed() -> None:
    assert parse_domain("web=/a,257") == ("web", ("/a", "257"))
    for text in ("web", "=5", "web=", "web=,"):
        with pytest.raises(ValueError, match="is no trust domain"):
            parse_domain(text)


def test_a_plot_is_drawn_with_the_names_of_all_schemes(demo_image: str, tmp_path: Path) -> None:
    done = btrimg("cache", "estimate", demo_image, "--plot", tmp_path / "saved.svg")
    assert (done.returncode, done.stderr) == (0, "")
    text = " ".join(ET.fromstring((tmp_path / "saved.svg").read_bytes()).itertext())
    for name in list(SCHEMES)[1:]:
        assert name in text
    assert "3 sharers: 17.9 MiB without sharing, 4.9 by extent, 73 % less" in text
    assert "100 % read wrong" in text


@pytest.mark.parametrize("curve", [[], [7], [1 << 20, 1 << 21, 5 << 20]])
def test_a_plot_has_the_same_bytes_each_time(curve: list[int]) -> None:
    drawings = {plot.curves(made(curve), "svg") for _ in range(2)}
    assert len(drawings) == 1
    if len(curve) == 3:
        assert b"page cache, GiB" in drawings.pop()
        assert plot.curves(made(curve), "png").startswith(b"\x89PNG\r\n")


def test_without_matplotlib_the_plot_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UnsupportedError, match=re.escape("pip install 'btrimg[plot]'")):
        plot.curves(made([1]), "svg")
    assert parse_plot("a.svg") == "a.svg"


def test_labels_are_moved_apart_as_little_as_it_takes() -> None:
    gap = plot._GAP
    assert plot._apart([0.2, 0.5]) == [0.2, 0.5]
    assert plot._apart([0.5, 0.5, 0.5]) == pytest.approx([0.5 - gap, 0.5, 0.5 + gap])
    assert plot._apart([0.0, 0.0, 0.9]) == pytest.approx([0.0, gap, 0.9])


def made(curve: list[int], **how: Any) -> Answer:
    """Return an answer whose schemes all have the same curve."""
    schemes = tuple(SchemeEstimate(name, tuple(curve), {}) for name in SCHEMES)
    found = Estimate(
        1, len(curve), schemes, 0, {}, 0, EqualSums(**({"pages": 0, "compared": True, "different": 0} | how))
    )
    return Answer([f"/{number}" for number in range(1, len(curve) + 1)], found, None)


def test_a_long_curve_is_shown_at_powers_of_two() -> None:
    lines = list(estimate_lines(made(list(range(1, 41))), Units(raw=True).text))
    shown = [line.split()[0] for line in lines[lines.index("In memory after the first N sharers") + 2 :]]
    assert shown == ["1", "2", "4", "8", "16", "32", "40"]
    assert lines[-1].split()[1:] == [str(40 * 4096)] * 7 + ["/40"]


def test_what_was_not_compared_is_said() -> None:
    text = "\n".join(estimate_lines(made([5], pages=3, compared=False), Units(raw=True).text))
    assert "content: 12288 shared for their checksum, not compared (--compare)" in text
    assert "In memory after" not in text
