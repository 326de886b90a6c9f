"""The commands as click commands: help, completion, and errors about arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from btrimg.cli.command import Argument
from btrimg.cli.main import COMMANDS, load

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from btrimg.cli.command import Command, Option

CONTEXT = {"help_option_names": ["-h", "--help"]}

TOP_HELP = """Read, translate and verify btrfs images, without root and without a mount.

IMAGE is an image file or block device; further devices of the same filesystem are given with -d. IMAGE:PATH names a
file inside. A plain path on a mounted btrfs works wherever a file is asked for.

\b
  btrimg resolve disk.img:/etc/passwd 4096
  btrimg extents disk.img --json
  btrimg ls -l disk.img:/home

Exit codes: 0 done; 1 errors were found, or what was asked for is not there; 2 wrong usage, or cannot run.
Shell completion: eval "$(_BTRIMG_COMPLETE=bash_source btrimg)".
"""
GROUP_HELP = {
    "cache": """Show what a page cache saves that files share, and run it.

Files that share extents have the same bytes in memory once for each of them. These commands count what that costs, and
what each way to share the pages would save: from metadata, from traces, and by doing it.

\b
  btrimg cache census disk.img
  btrimg cache estimate disk.img --plot saved.svg
""",
    "inspect": """Show what is on the disk, with the names and flags of btrfs inspect-internal.

The image need not be mounted, nor be sound: what is broken is shown as far as it can be read, and marked.

\b
  btrimg inspect dump-super -fa disk.img
  btrimg inspect dump-tree -t fs -t csum disk.img
  btrimg inspect list-chunks disk.img
""",
}


class _Converted(click.ParamType[Any]):
    """A value converted by a function of ours, whose ValueError is the message."""

    def __init__(self, convert: Callable[[str], Any], metavar: str, is_path: bool) -> None:
        self.name, self._convert, self._is_path = metavar, convert, is_path

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the converted value; defaults are converted already."""
        if not isinstance(value, str):
            return value
        try:
            return self._convert(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Let the shell complete names of files where they are meant."""
        return [CompletionItem(incomplete, type="file")] if self._is_path else []


def _parameter(parameter: Argument | Option) -> click.Parameter:
    if isinstance(parameter, Argument):
        return click.Argument(
            [parameter.name],
            type=_Converted(parameter.convert, parameter.metavar, parameter.is_path),
            metavar=parameter.metavar,
            nargs=-1 if parameter.many else 1,
            required=not parameter.optional,
        )
    names = [parameter.name, *parameter.flags]
    if parameter.convert is None:
        return click.Option(names, is_flag=True, help=parameter.help)
    return click.Option(
        names,
        type=_Converted(parameter.convert, parameter.metavar, parameter.is_path),
        metavar=parameter.metavar,
        default=parameter.default,
        show_default=parameter.default is not None,
        multiple=parameter.many,
        help=parameter.help,
    )


def click_command(command: Command) -> click.Command:
    """Return *command* as a click command."""
    return click.Command(
        command.name,
        context_settings=CONTEXT,
        callback=command.run,
        params=[_parameter(parameter) for parameter in command.parameters],
        help=command.help,
    )


class Group(click.Group):
    """The commands whose words start with *prefix*; each is imported only when it runs."""

    def __init__(self, prefix: tuple[str, ...], text: str) -> None:
        super().__init__(prefix[-1] if prefix else "btrimg", context_settings=CONTEXT, help=text)
        self._prefix = prefix

    def _below(self) -> dict[str, str]:
        """Return the next words and their help."""
        depth = len(self._prefix)
        found: dict[str, str] = {}
        for words, (_, short) in COMMANDS.items():
            if words[:depth] == self._prefix:
                leaf = len(words) == depth + 1
                found[words[depth]] = short if leaf else GROUP_HELP[words[depth]].partition("\n")[0]
        return found

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(self._below())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        words = (*self._prefix, cmd_name)
        if words in COMMANDS:
            return click_command(load(words))
        return Group(words, GROUP_HELP[cmd_name]) if cmd_name in GROUP_HELP and not self._prefix else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self._below().items()))


def top_group() -> click.Group:
    """Return the group of all commands."""
    group = Group((), TOP_HELP)
    return click.version_option(package_name="btrimg", message="%(prog)s %(version)s")(group)


def run_with_click(words: Sequence[str]) -> int:
    """Let click parse *words* and run the command; return the exit code."""
    try:
        code = top_group().main(list(words), prog_name="btrimg", standalone_mode=False)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return 130
    return code if isinstance(code, int) else 0
