"""The commands as click commands: help, completion, and errors about arguments."""

from __future__ import annotations

from difflib import get_close_matches
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from btrimg.cli.command import Argument, load_from
from btrimg.cli.main import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from btrimg.cli.command import Command, Option, Table

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
    if command.verbs is not None:
        return _WithVerbs(command)
    return click.Command(
        command.name,
        context_settings=CONTEXT,
        callback=command.run,
        params=[_parameter(parameter) for parameter in command.parameters],
        help=command.help,
    )


def deferred(command: Command) -> Command:
    """Return *command* so that to run it gives what runs it, without arguments.

    Within click's ``main`` a pipe that nobody reads any more ends the program with exit code 1, and in silence.
    """

    @wraps(command.run)
    def later(**given: Any) -> Any:
        return partial(command.run, **given)

    return command._replace(run=later)


class Group(click.Group):
    """The commands of *table* whose words start with *prefix*; each is imported only when it runs."""

    def __init__(self, prefix: tuple[str, ...], text: str, table: Table = COMMANDS, **how: Any) -> None:
        super().__init__(prefix[-1] if prefix else "btrimg", context_settings=CONTEXT, help=text, **how)
        self._prefix, self._table = prefix, table

    def _below(self) -> dict[str, str]:
        """Return the next words and their help."""
        depth = len(self._prefix)
        found: dict[str, str] = {}
        for words, (_, short) in self._table.items():
            if words[:depth] == self._prefix:
                leaf = len(words) == depth + 1
                found[words[depth]] = short if leaf else self._help_of(words[depth]).partition("\n")[0]
        return found

    def _help_of(self, word: str) -> str:
        return GROUP_HELP[word]

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(self._below())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        words = (*self._prefix, cmd_name)
        if words in self._table:
            return self._leaf(load_from(self._table, words))
        return self._group(words) if cmd_name in self._below() else None

    def _leaf(self, command: Command) -> click.Command:
        return click_command(deferred(command))

    def _group(self, words: tuple[str, ...]) -> Group:
        return Group(words, self._help_of(words[-1]))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self._below().items()))


class _Verbs(Group):
    """The verbs of *command* whose words start with *prefix*."""

    def __init__(self, command: Command, prefix: tuple[str, ...], text: str, **how: Any) -> None:
        super().__init__(prefix, text, command.verbs or {}, subcommand_metavar="VERB [ARG]...", **how)
        self._command = command

    def _help_of(self, word: str) -> str:
        shorts = [short for words, (_, short) in self._table.items() if words[0] == word]
        return " ".join(shorts)

    def _group(self, words: tuple[str, ...]) -> Group:
        return _Verbs(self._command, words, self._help_of(words[-1]))

    def _leaf(self, command: Command) -> click.Command:
        def run(**given: Any) -> int:
            ours: Mapping[str, Any] = click.get_current_context().obj
            return self._command.run(**self._command.joined(dict(ours), command, given))

        made = click_command(self._command.with_own_options(command)._replace(run=run))
        made.ignore_unknown_options = command.takes_dashes
        for option in made.params[len(command.parameters) :]:
            option.hidden = True  # type: ignore[attr-defined]  # it is told of by the help of our command
        made.epilog = f"Options of btrimg {self._command.name} may stand here, too."
        made.help = command.help
        return made

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the verb that *args* begin with."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand:
            near = get_close_matches(args[0], self.list_commands(ctx), 1)
            hint = f"did you mean {near[0]}?" if near else f"btrimg {self._command.name} --help lists them"
            raise click.UsageError(f"There is no verb {args[0]!a}: {hint}", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of verbs with their arguments."""
        rows = [
            (" ".join((*words[:-1], load_from(self._table, words).usage)), short)
            for words, (_, short) in self._table.items()
            if words[: len(self._prefix)] == self._prefix
        ]
        with formatter.section("Verbs"):
            formatter.write_dl(rows)


class _WithVerbs(_Verbs):
    """A command with its own parameters, and then a verb."""

    def __init__(self, command: Command) -> None:
        super().__init__(
            *(command, (), command.help),
            invoke_without_command=True,
            callback=self._run,
            params=[_parameter(parameter) for parameter in command.parameters],
        )
        self.name = command.name

    def _run(self, **values: Any) -> int:
        context = click.get_current_context()
        context.obj = values  # for the verb
        return 0 if context.invoked_subcommand else self._command.run(**values, verb=None, given={})

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Let options stand between the arguments and the verb, too."""
        own, tail = self._command.split(args)
        return super().parse_args(ctx, own + tail)


def top_group() -> click.Group:
    """Return the group of all commands."""
    group = Group((), TOP_HELP)
    return click.version_option(package_name="btrimg", message="%(prog)s %(version)s")(group)


def run_with_click(words: Sequence[str]) -> int:
    """Let click parse *words* and run the command; return the exit code."""
    try:
        done = top_group().main(list(words), prog_name="btrimg", standalone_mode=False)
    except click.exceptions.Exit as left:
        return left.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return 130
    code = done() if callable(done) else done
    return code if isinstance(code, int) else 0
