"""``btrimg shell``: from a pipe and on a terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fresh import make_empty
from support.images import MIB
from support.judges import complaints_of_btrimg

from btrimg.cli.shellwords import Completer
from btrimg.edit.items import ItemEditor
from btrimg.edit.lines import quoted, split_words, whole_words
from btrimg.edit.shell import Surroundings
from btrimg.errors import BtrimgError
from btrimg.filesystem.image import open_image

from .sessions import begun

if TYPE_CHECKING:
    from pathlib import Path

BTRIMG = [sys.executable, "-m", "btrimg"]
MOST_SECONDS = 30  # for an answer, on a busy machine
_ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z~]|[()][A-B0-2]|[=>])")  # that move and colour


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        ("  # nothing", []),
        ("ls  -l /a", ["ls", "-l", "/a"]),
        ("rm 'a b' \"c d\" e\\ f", ["rm", "a b", "c d", "e f"]),
        ("rm a#b # c", ["rm", "a#b"]),
        (r"""rm "a\"b\\c\d" 'e\f'""", ["rm", 'a"b\\c\\d', "e\\f"]),
        ("rm ''", ["rm", ""]),
    ],
)
def test_lines_are_taken_apart_as_a_shell_does(line: str, words: list[str]) -> None:
    assert whole_words(line) == words


@given(st.text())
def test_quoted_words_read_back(text: str) -> None:
    assert whole_words(f"ls {quoted(text)} x") == ["ls", text, "x"]
    (_, word) = split_words(f"ls {quoted(text, closed=False)}")
    assert (word.text, word.start) == (text, 3)


def test_open_quotes_are_refused() -> None:
    assert split_words("ls 'a b")[-1] == ("a b", 3, "'")
    with pytest.raises(BtrimgError, match="a ' is not closed"):
        whole_words("ls 'a")


def piped(image: str, *lines: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    text = "".join(f"{line}\n" for line in lines)
    return subprocess.run(
        [*BTRIMG, "shell", image], input=text, capture_output=True, text=True, check=False, env=os.environ | (env or {})
    )


def test_each_edit_is_a_commit_and_errors_do_not_end_the_shell(forged: str) -> None:
    done = piped(
        forged,
        "cd files",
        "pwd",
        "mkdir new",
        "nonsense",
        "cat nowhere",
        "ln -s ../inline.txt new/link",
        "cat new/link",
        "stat new",
        "cd ..",
        "pwd",
        "sql 'select count(*) as found from inodes'",
        "quit",
        "mkdir never",
    )
    assert done.returncode == 2, "that of the first that failed: a word that is not known"
    assert done.stderr.splitlines() == [
        "btrimg: 'nonsense' is no word of the shell; help lists them",
        "btrimg: there is no '/files/nowhere'",
    ]
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("/")] == ["/files", "/"]
    assert "a file this short lies in the metadata" in lines
    with open_image(forged) as image:
        assert image.superblock.generation == 14, "two commits"
        assert image.open(b"/files/new/link").path == b"/files/inline.txt"
        assert b"never" not in [entry.name for entry, _ in image.open(b"/").entries()]


def test_what_fails_when_part_of_it_is_done_aborts_the_transaction(tmp_path: Path) -> None:
    """Names are put at the end: what is made by then would have none."""
    image, tree = str(tmp_path / "image"), tmp_path / "tree"
    make_empty(image, 80 * MIB, nodesize=4096)
    tree.mkdir()
    (tree / "a").symlink_to("x")
    (tree / "b").symlink_to("x" * 4000)  # which is more than a leaf holds
    done = piped(image, "begin", "mkdir waits", f"put {tree} /new", "commit", "begin", "mkdir later", "commit", "ls /")
    said = done.stderr.splitlines()
    assert (len(said), "the transaction is aborted" in said[0], "no transaction" in said[1]) == (2, True, True)
    assert done.stdout == "later\n"
    assert complaints_of_btrimg([image]) == []


def test_between_begin_and_commit_edits_are_one_transaction_that_readers_see(forged: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"from the host\n" * 1000)
    done = piped(
        forged,
        "begin",
        "item set super label=x",
        "mkdir a",
        f"put {source} a/file",
        "item set fs 261.INODE_ITEM.0 uid=12",
        "ls a",
        "cat a/file",
        "resolve a/file 0",
        "item fs 261.INODE_ITEM.0 uid",
        "item ./files/inline.txt INODE_ITEM gid",
        "begin",
        "mkdir a",
        "chmod 700 a",
        "commit",
        "begin",
        "rm -r a",
        "ls a",
        "abort",
        "ls a",
        "commit",
        "begin",
        "rm -r a",
    )
    assert done.returncode == 2
    said = done.stderr.splitlines()
    assert "not in a transaction: commit or abort it first" in said[0]
    assert said[1] == "btrimg: a transaction has begun already: commit or abort ends it"
    assert "'/a'" in said[2]
    assert said[3] == "btrimg: there is no '/a'"
    assert said[4].startswith("btrimg: no transaction has begun")
    assert said[5] == "btrimg: warning: the transaction was not committed: what waited is forgotten"
    assert done.stdout.count("file\n") == 2
    assert done.stdout.count("from the host\n") == 1000
    assert "uid  12" in done.stdout
    assert "gid  0" in done.stdout
    with open_image(forged) as image:
        assert image.superblock.generation == 13, "one commit"
        assert image.open(b"/a").item.mode & 0o777 == 0o700
        assert image.open(b"/files/inline.txt").item.uid == 12


def test_help_tells_of_all_words(forged: str) -> None:
    done = piped(forged, "help", "help cd", "help item set", "ls --help", "help nowhere")
    assert done.returncode == 2
    for words in ("begin  ", "item set  ", "subvolume create  ", "dump  ", "Usage: item set ", "Usage: ls "):
        assert words in done.stdout


def test_completion_knows_words_paths_trees_keys_and_fields(forged: str, tmp_path: Path) -> None:
    (tmp_path / "host file").touch()
    with begun([forged], str(tmp_path / "undo")) as session:
        around = Surroundings(session)
        completer = Completer(around, ItemEditor(session))

        def goes_on(line: str) -> dict[str, str]:
            start, texts = completer.complete(line)
            return {text.strip(): line[:start] + text for text in texts}

        assert goes_on("sn") == {"snapshot": "snapshot "}
        assert {"stat", "sql", "snapshot", "set-default", "subvolume"} <= goes_on("s").keys()
        assert goes_on("subvolume ").keys() == {"create", "delete"}
        assert goes_on("item s") == {"set": "item set ", "super": "item super "}
        assert goes_on("help item g").keys() == set()
        assert goes_on("ls --rec") == {"--recursive": "ls --recursive "}
        assert goes_on("cat files/in") == {"files/inline.txt": "cat files/inline.txt "}
        assert goes_on("cat /files/d") == {"/files/deep/": "cat /files/deep/"}
        assert goes_on("cd ").keys() == {"files/", "vm/", "vm-monday/"}
        around.change_directory(b"files")
        assert goes_on("cd ") == {"deep/": "cd deep/"}
        assert goes_on("rm nothing") == {}
        assert goes_on(f"put {tmp_path}/ho").keys() == {f"'{tmp_path}/host file'"}
        assert goes_on(f"put '{tmp_path}/ho").keys() == {f"'{tmp_path}/host file'"}
        assert goes_on("item get ch") == {"chunk": "item get chunk "}
        assert goes_on("item get fs 261.INODE_") == {
            f"261.{key}": f"item get fs 261.{key} " for key in ("INODE_ITEM.0", "INODE_REF.258", "INODE_REF.259")
        }
        assert goes_on("item get fs 261.INODE_ITEM.0 nl") == {"nlink": "item get fs 261.INODE_ITEM.0 nlink "}
        assert goes_on("item set fs 261.INODE_ITEM.0 uid=1 mtime.") == {
            f"mtime.{part}=": f"item set fs 261.INODE_ITEM.0 uid=1 mtime.{part}=" for part in ("sec", "nsec")
        }
        assert "sys_chunks[0].chunk.length" in goes_on("item get super sys_ch")
        assert goes_on("sql 'select") == {}


# On a terminal


class Terminal:
    """A shell that is typed to."""

    def __init__(self, image: str, state: str) -> None:
        self.pid, self.fd = pty.fork()
        if not self.pid:
            os.environ.update(XDG_STATE_HOME=state, TERM="xterm", PROMPT_TOOLKIT_NO_CPR="1", NO_COLOR="1")
            os.execv(BTRIMG[0], [*BTRIMG, "shell", image])
        self.shown = ""

    def until(self, pattern: str) -> str:
        """Return what is shown up to *pattern*, and forget it."""
        while not (found := re.search(pattern, self.shown)):
            ready, _, _ = select.select([self.fd], [], [], MOST_SECONDS)
            assert ready, f"{pattern!r} does not come after {self.shown!r}"
            self.shown = _ESCAPES.sub("", self.shown + os.read(self.fd, 65536).decode("utf-8", "replace"))
        before, self.shown = self.shown[: found.end()], self.shown[found.end() :]
        return before

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def ends(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_a_terminal_completes_remembers_and_cancels(forged: str, tmp_path: Path) -> None:
    terminal = Terminal(forged, str(tmp_path))
    prompt = "demo.img:/>"
    terminal.until(prompt)
    terminal.type("cd fi\t")
    terminal.until("les/")
    terminal.type("\r")
    terminal.until("/files>")
    terminal.type("item get fs 261.INODE_I\t")
    terminal.until("TEM.0")
    terminal.type("ui\t\r")
    terminal.until("uid +0")
    terminal.until("/files>")
    terminal.type("stat ca\t\r")  # a name that is not UTF-8
    terminal.until("inode: +267 of subvolume 5")
    terminal.until("/files>")
    terminal.type("rm inline.txt\x03")
    terminal.until("/files>")
    terminal.type("begin\r")
    terminal.until(r"/files\*>")
    terminal.type("nonsense\r")
    terminal.until("no word of the shell")
    terminal.until(r"/files\*>")
    terminal.type("rm inline.txt\r")
    terminal.until(r"/files\*>")
    terminal.type("abort\r")
    terminal.until("/files>")
    terminal.type("\x04")
    assert terminal.ends() == 0
    with open(tmp_path / "btrimg" / "history") as file:
        history = [line[1:-1].strip() for line in file if line.startswith("+")]
    assert history[:2] == ["cd files/", "item get fs 261.INODE_ITEM.0 uid"]
    assert history[3:] == ["begin", "nonsense", "rm inline.txt", "abort"]
    with open_image(forged) as image:
        assert image.open(b"/files/inline.txt").item.size == 39
