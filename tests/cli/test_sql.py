"""``btrimg sql`` and ``export-tables`` as programs."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from support.program import btrimg

from btrimg.tables.schema import RELATIONS

if TYPE_CHECKING:
    from pathlib import Path

XATTRS = "select name, value from xattrs order by name desc"
VALUE = "fixtures/demo.sh"


def out(*words: str, stdin: str = "") -> str:
    done = btrimg(*words, stdin=stdin)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_table_is_aligned_and_escaped(demo_image: str) -> None:
    assert out("sql", demo_image, XATTRS).splitlines() == [
        "name               value",
        "user.origin        fixtures/demo.sh",
        "btrfs.compression  zstd",
    ]
    assert out("sql", demo_image, "select 1 as a, null as b, e'x\\ny' as c").splitlines() == ["a  b  c", "1     x\\ny"]


def test_json_is_an_object_a_line(demo_image: str) -> None:
    for flags in (["--json"], ["--format", "json"]):
        rows = [json.loads(line) for line in out("sql", *flags, demo_image, XATTRS).splitlines()]
        assert rows[0] == {"name": "user.origin", "value": VALUE.encode().hex()}
    odd = "select 1.5 as d, 'nan'::double as n, date '2026-01-02' as t, [1, 2] as l, sum(size) as s from inodes"
    row = json.loads(out("sql", "--json", demo_image, odd))
    assert (row["d"], row["n"], row["t"], row["l"]) == ("1.5", "nan", "2026-01-02", [1, 2])
    assert row["s"] > 1 << 20


def test_json_holds_what_it_has_no_type_for(demo_image: str) -> None:
    odd = """
        select {'a': 'nan'::double, 'b': '\\xFF\\x00'::blob, 'c': [null, true]} as s, map(['\\xFE'::blob], ['q']) as m,
        1 as a, 2 as a, 3 as a_1, 4 as a, uuid '00000000-0000-0000-0000-000000000001' as u, 'caf\u00e9' as t
    """
    assert json.loads(out("sql", "--json", demo_image, odd)) == {
        "s": {"a": "nan", "b": "ff00", "c": [None, True]},
        "m": {"fe": "q"},
        "a": 1,
        "a_2": 2,
        "a_3": 4,
        "a_1": 3,
        "u": "00000000-0000-0000-0000-000000000001",
        "t": "caf\u00e9",
    }


def test_values_outside_json_read_as_sql_writes_them(demo_image: str) -> None:
    query = "select [1, null] as l, {'x': '\\xFF'::blob} as s, true as b, null as n, 1.50 as d, '\\xFF'::blob as h"
    assert list(csv.reader(io.StringIO(out("sql", "--format", "csv", demo_image, query))))[1] == [
        *("[1, null]", '{"x": "ff"}', "true", "", "1.50", "ff")
    ]
    assert out("sql", demo_image, query).splitlines()[1].split("  ")[0] == "[1, null]"
    for form, empty in (("table", "id  rfer\n"), ("csv", "id,rfer\n"), ("json", "")):
        assert out("sql", "--format", form, demo_image, "select id, rfer from qgroups") == empty


def test_csv_quotes_what_needs_it(demo_image: str) -> None:
    text = out("sql", "--format", "csv", demo_image, """select 1 as a, e'x\\n"y",' as b, null as c""")
    assert list(csv.reader(io.StringIO(text))) == [["a", "b", "c"], ["1", 'x\n"y",', ""]]


def test_a_query_comes_from_standard_input(demo_image: str) -> None:
    for words in (["sql", demo_image], ["sql", demo_image, "-"]):
        assert out(*words, stdin="select count(*) as n\nfrom chunks") == "n\n4\n"


def test_output_goes_to_a_file(demo_image: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    assert out("sql", demo_image, "--format", "csv", "--output", str(path), "select 7 as n") == ""
    assert path.read_text() == "n\n7\n"
    path = tmp_path / "rows.parquet"
    assert out("sql", demo_image, "--format", "parquet", "--output", str(path), XATTRS) == ""
    assert path.read_bytes()[:4] == path.read_bytes()[-4:] == b"PAR1"


def test_the_schema_shows_every_column(demo_image: str) -> None:
    text = out("sql", demo_image, "--schema")
    for relation in RELATIONS.values():
        assert f"{relation.name}: {relation.comment}\n" in text
    assert "  physical  UBIGINT    physical  start on the device\n" in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["selec"], "syntax error"),
        ([" "], "there is no query; see btrimg sql --help"),
        (["/* a remark */"], "there is no query"),
        (["--format", "parquet", "select 1"], "needs --output"),
        (["--format", "xml", "select 1"], "'xml' is none of table, json, csv, parquet"),
        (["select 1", "select 2"], "select 2"),
        (["--output", "/nowhere/file", "select 1"], "No such file"),
        (["--format", "parquet", "--output", "/nowhere/file", "select 1"], "annot"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_2(words: list[str], says: str, demo_image: str) -> None:
    done = btrimg("sql", demo_image, *words)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_ctrl_c_ends_a_query_and_leaves_nothing(demo_image: str, tmp_path: Path) -> None:
    endless = "select sum(a.i * b.i) from range(10000000) a(i), range(10000000) b(i), superblock"
    command = [sys.executable, "-m", "btrimg", "sql", demo_image, endless]
    running = subprocess.Popen(command, env={**os.environ, "TMPDIR": str(tmp_path)}, stderr=subprocess.PIPE)
    while not os.listdir(tmp_path):
        assert running.poll() is None
        time.sleep(0.05)
    time.sleep(1)
    running.send_signal(signal.SIGINT)
    assert running.communicate(timeout=60)[1] == b""
    assert running.returncode == 130
    assert os.listdir(tmp_path) == []


def test_little_memory_is_said_to_be_too_little(demo_image: str) -> None:
    # A plain count passes in one of ten runs: who comes first gets the little that there is.
    done = btrimg("sql", demo_image, "--memory", "1K", "select name, count(*) from names group by all order by all")
    assert done.returncode == 2
    assert "Out of Memory" in done.stderr
    assert "--memory" in done.stderr


def test_exports_of_several_images_are_queried_together(demo_image: str, forged: str, tmp_path: Path) -> None:
    import duckdb

    for number, image in enumerate((demo_image, forged)):
        assert out("export-tables", image, str(tmp_path / f"fleet/{number}"), "--memory", "64M") == ""
    with duckdb.connect() as con:
        for name in RELATIONS:
            counts = con.execute(
                f"select image, count(*) from '{tmp_path}/fleet/*/{name}.parquet' group by all order by all"
            ).fetchall()
            assert {image for image, _ in counts} <= {demo_image, forged}
            assert len({count for _, count in counts}) <= 1
        shared = con.execute(
            f"select count(distinct n.image) from '{tmp_path}/fleet/*/names.parquet' n"
            f" join '{tmp_path}/fleet/*/inodes.parquet' i using (image, subvolume, inode) where n.name = 'disk.raw'"
        ).fetchone()
    assert shared == (2,)


def test_export_tables_fills_a_new_directory_only(demo_image: str, tmp_path: Path) -> None:
    target = tmp_path / "tables"
    assert out("export-tables", demo_image, str(target)) == ""
    assert sorted(os.listdir(target)) == sorted(f"{name}.parquet" for name in RELATIONS)
    again = btrimg("export-tables", demo_image, str(target))
    assert again.returncode == 2
    assert "is not empty" in again.stderr
    taken = target / "inodes.parquet"
    assert btrimg("export-tables", demo_image, str(taken)).stderr == (
        f"btrimg: {str(taken)!a} is no directory; name a new or an empty one\n"
    )


@pytest.mark.parametrize(
    "words",
    [["export-tables", "tables"], ["sql", "--format", "csv", "--output", "old", "from names, range(100)"]],
    ids=["export-tables", "csv"],
)
def test_what_cannot_be_finished_leaves_all_as_it_was(words: list[str], demo_image: str, tmp_path: Path) -> None:
    (tmp_path / "old").write_text("of yesterday")
    limited = "import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (4096,) * 2); "
    limited += "runpy.run_module('btrimg', run_name='__main__')"
    command = [sys.executable, "-c", limited, words[0], os.path.abspath(demo_image), *words[1:]]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert re.fullmatch(r"btrimg: .*File too large\n", done.stderr)
    assert "{" not in done.stderr
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("old", "of yesterday")]


def test_who_is_told_to_stop_leaves_nothing(demo_image: str, tmp_path: Path) -> None:
    words = ["--format", "parquet", "--output", "new", "from range(1000000000000)"]
    command = [sys.executable, "-m", "btrimg", "sql", os.path.abspath(demo_image), *words]
    with subprocess.Popen(command, cwd=tmp_path) as running:
        while not os.listdir(tmp_path):
            assert running.poll() is None
            time.sleep(0.02)
        running.terminate()
        assert running.wait(60) == 128 + signal.SIGTERM
    assert os.listdir(tmp_path) == []


def test_parquet_takes_the_place_of_a_file_and_of_nothing_else(demo_image: str, tmp_path: Path) -> None:
    """Of /dev/null, for one, that root could have replaced."""
    special, link = tmp_path / "special", tmp_path / "link"
    os.mkfifo(special)
    done = btrimg("sql", demo_image, "--format", "parquet", "--output", str(special), "select 1 as a")
    assert (done.returncode, done.stderr) == (2, f"btrimg: {special} exists; name a new file\n")
    assert special.is_fifo()
    (tmp_path / "file").write_text("of yesterday")
    link.symlink_to("file")
    assert out("sql", demo_image, "--format", "parquet", "--output", str(link), "select 1 as a") == ""
    assert (link.is_symlink(), link.read_bytes()[:4]) == (True, b"PAR1")
    assert sorted(os.listdir(tmp_path)) == ["file", "link", "special"]


def test_the_image_is_not_replaced_by_what_is_read_of_it(demo_image: str, tmp_path: Path) -> None:
    image, link = tmp_path / "disk.data", tmp_path / "link"
    shutil.copyfile(demo_image, image)
    os.link(image, link)
    for words in (
        ["sql", "--format", "csv", "--output", str(link), str(image), "select 1"],
        ["recipe", "--overwrite", str(image), "-o", str(tmp_path / "disk")],
    ):
        done = btrimg(*words)
        assert (done.returncode, "is the image or holds it" in done.stderr) == (2, True), words
    assert sorted(os.listdir(tmp_path)) == ["disk.data", "link"]
    assert image.read_bytes() == link.read_bytes()
    assert os.path.samefile(image, link)


def test_damage_is_a_warning_and_exit_1(demo_image: str, tmp_path: Path) -> None:
    path = tmp_path / "damaged.img"
    query = """
        select t.logical, s.physical + t.logical - c.logical as physical from tree_blocks t
        join chunks c on t.logical >= c.logical and t.logical < c.logical + c.length
        join stripes s on s.chunk = c.logical where t.owner = 7
    """
    places = [json.loads(line) for line in out("sql", "--json", demo_image, query).splitlines()]
    assert len(places) == 2
    with open(demo_image, "rb") as source, open(path, "wb") as copy:
        copy.write(source.read())
        for place in places:
            copy.seek(place["physical"])
            copy.write(bytes(4096))
    done = btrimg("sql", str(path), "select count(*) as n from csums")
    assert (done.returncode, done.stdout) == (1, "n\n0\n")
    assert f"tree block {places[0]['logical']}" in done.stderr
    assert out("sql", str(path), "select count(*) as n from inodes") == " n\n19\n"


def test_a_path_that_is_not_utf_8_is_refused(demo_image: str, tmp_path: Path) -> None:
    target = f"{tmp_path}/\udcff"
    for words in (
        ["export-tables", demo_image, target],
        ["sql", demo_image, "--format", "parquet", "--output", target],
    ):
        done = btrimg(*words, stdin="select 1")
        assert done.returncode == 2
        assert "DuckDB writes only to paths in UTF-8" in done.stderr
        assert done.stderr.count("\n") == 1
