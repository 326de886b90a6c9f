"""The prompt of the shell on a terminal: editing, history, completion; imported only there, for prompt_toolkit."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import Completer, Completion
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.shortcuts import CompleteStyle

from btrimg.cli.terminal import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.document import Document

    from btrimg.cli import shellwords


class _Completer(Completer):
    def __init__(self, ours: shellwords.Completer) -> None:
        self._ours = ours

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        """Yield how the line may go on."""
        before = document.current_line_before_cursor
        start, texts = self._ours.complete(before)
        for text in texts:
            yield Completion(text, start - len(before), display=text.rstrip())


class _History(FileHistory):
    def store_string(self, string: str) -> None:
        """Keep a line; bytes of names that are not UTF-8 cannot be."""
        super().store_string(string.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))


def _history() -> History:
    """Return the history in XDG_STATE_HOME; where that cannot be written, one that ends with the shell."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    path = os.path.join(state, "btrimg", "history")
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(path, "ab"):
            pass
    except OSError as error:
        say("warning", "yellow", f"no history is kept: {error}")
        return InMemoryHistory()
    return _History(path)


def prompted_lines(prompt: Callable[[], str], completer: shellwords.Completer) -> Iterator[str]:
    """Yield lines typed at the terminal, until it is closed; a line that is interrupted is forgotten."""
    session: PromptSession[str] = PromptSession(
        history=_history(),
        completer=_Completer(completer),
        complete_while_typing=False,
        complete_style=CompleteStyle.READLINE_LIKE,
    )
    while True:
        try:
            yield session.prompt(prompt)
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
