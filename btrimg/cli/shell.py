"""``btrimg shell``: look at an image and change it, line by line."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from btrimg.cli.command import Argument, command
from btrimg.cli.edit import CHANGING, DRY_RUN, context_of, show_outcome, show_writes
from btrimg.cli.edit_parameters import surroundings
from btrimg.cli.main import code_of
from btrimg.cli.parameters import Target
from btrimg.cli.shellwords import OWN, Completer, commands, meaning_of
from btrimg.cli.stopping import clean_up_when_stopped
from btrimg.cli.terminal import say, sentence, standard_input
from btrimg.edit.lines import whole_words
from btrimg.errors import BtrimgError, CorruptError, DeviceError, HalfDoneError, NoSpaceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from btrimg.cli.shellwords import Meaning
    from btrimg.cli.verbs import Context

# Errors after which a transaction may have half of a verb; others are found before anything is changed.
_HARMFUL = (CorruptError, DeviceError, HalfDoneError, NoSpaceError, OSError, MemoryError)


@command(Argument("image", "IMAGE", str, is_path=True), DRY_RUN, *CHANGING)
def shell(image: str, dry_run: bool, **changing: Any) -> int:
    """Look at an image and change it, line by line: by the verbs of "btrimg edit", and by ls, stat, cat, sql, item ….

    \b
      btrimg shell disk.img
      printf 'begin\\nrm -r /tmp\\nmkdir /tmp\\ncommit\\n' | btrimg shell disk.img

    Each edit is a commit by itself. Between begin and commit edits wait to become one: ls, stat, cat, resolve and
    item see them, dump, locate and sql show the last commit. abort forgets them, and so does the end of the input.

    With --dry-run all of it is done to a draft, and shown at the end; nothing is written.

    What is overwritten is saved in the same undo file all along: `btrimg undo` brings back what was before the shell.
    Paths are relative to the directory that cd goes to. On a terminal there are history and, by Tab, completion of
    words, paths and fields. Read from a pipe, lines go on after one that fails; the exit code is that of the first
    that did.
    """
    clean_up_when_stopped()
    context = context_of(image, dry_run=dry_run, **changing)
    try:
        code = Shell(context).run()
        if dry_run and context.session.has_begun:
            context.abort()
            show_writes(context.session, as_json=False)
        return code
    finally:
        context.close()


class Shell:
    """Does what lines say."""

    def __init__(self, context: Context) -> None:
        from btrimg.edit.items import ItemEditor
        from btrimg.edit.shell import Surroundings

        self._context = context
        self._around = Surroundings(context.session)
        self._completer = Completer(self._around, ItemEditor(context.session))
        self._done = False
        surroundings.absolute = self._around.absolute
        surroundings.has_stdin = False

    def run(self) -> int:
        """Do all lines; return 0 at a terminal, else the exit code of the first that failed."""
        by_hand = standard_input("shell").isatty() and sys.stdout.isatty()
        first = 0
        for line in self._prompted() if by_hand else _plain_lines():
            code = self._one(line)
            first = first or code
            if self._done:
                break
        if self._context.session.pending:
            say("warning", "yellow", "the transaction was not committed: what waited is forgotten")
        return 0 if by_hand else first

    def _prompted(self) -> Iterator[str]:
        from btrimg.cli.prompting import prompted_lines

        name = os.path.basename(self._context.session.paths[0])
        return prompted_lines(lambda: self._prompt(name), self._completer)

    def _prompt(self, name: str) -> str:
        from btrimg.render.text import printable

        waits = "*" if self._around.collects else ""
        return f"{name}:{printable(self._around.directory)}{waits}> "

    def _one(self, line: str) -> int:
        """Do a line; return its exit code."""
        try:
            words = whole_words(line)
            code = self._do(words) if words else 0
        except BrokenPipeError:
            raise
        except KeyboardInterrupt:
            say("", "red", f"interrupted{self._forget()}")
            code = 130
        except (BtrimgError, OSError, MemoryError) as error:
            lost = self._forget() if isinstance(error, _HARMFUL) or not self._around.collects else ""
            say("", "red", f"{sentence(error)}{lost}")
            code = code_of(error)
        sys.stdout.flush()
        return code

    def _forget(self) -> str:
        """Forget the edits that wait; return what to say of it."""
        collected = self._around.collects and self._context.session.pending
        self._context.abort()
        self._around.collects = False
        return "; the transaction is aborted" if collected else ""

    def _do(self, words: list[str]) -> int:
        if words[0] in OWN or words[0] == "exit":
            return self._own(*words)
        meaning = meaning_of(words, self._target)
        if not meaning.edits:
            return run_meaning(meaning)
        code = run_meaning(meaning, self._context)
        if not self._around.collects:
            self._commit()
        return code

    def _target(self, path: bytes | None) -> Target:
        absolute = None if path is None else self._around.absolute(path)
        return Target(self._context.session.paths, absolute, self._around.image)

    def _commit(self) -> None:
        session = self._context.session
        outcome = self._context.commit()
        if not session.dry_run:
            show_outcome(outcome, as_json=False)

    def _own(self, word: str, *arguments: str) -> int:
        if len(arguments) > {"cd": 1, "help": 2}.get(word, 0):
            raise BtrimgError(f"{word} takes no {arguments[-1]!a}; help {word} says more")
        if word == "cd":
            self._around.change_directory(os.fsencode(arguments[0]) if arguments else b"/")
        elif word == "pwd":
            from btrimg.render.text import printable

            print(printable(self._around.directory))
        elif word == "begin":
            self._around.begin()
            try:
                self._context.session.transaction()  # now, so that nothing is done in place meanwhile
            except BaseException:
                self._around.end()
                raise
        elif word == "commit":
            self._around.end()
            self._commit()
        elif word == "abort":
            self._around.end()
            self._context.abort()
        elif word == "help":
            return self._help(arguments)
        else:
            self._done = True
        return 0

    def _help(self, words: tuple[str, ...]) -> int:
        if words and words[0] not in OWN:
            return run_meaning(meaning_of(words, self._target)._replace(words=["--help"]), self._context)
        known = [(name, short) for name, short in commands() if not words or name == words[0]]
        width = max(len(name) for name, _ in known)
        for name, short in known:
            print(f"{name:<{width}}  {short}")
        return 0


def _plain_lines() -> Iterator[str]:
    sys.stdin.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]  # names need not be UTF-8
    yield from sys.stdin


def run_meaning(meaning: Meaning, *first: Context) -> int:
    """Run a command with its words, *first* before what they give; return the exit code.

    What is not plain goes to click: help, errors, clustered flags.
    """
    command = meaning.command
    values = command.parse(meaning.words)
    if values is not None:
        return command.run(*first, **values)
    import click

    from btrimg.cli.click_group import click_command, deferred

    made = click_command(deferred(command))
    try:
        done = made.main(meaning.words, prog_name=meaning.name, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    code = done(*first) if callable(done) else done
    return code if isinstance(code, int) else 0
