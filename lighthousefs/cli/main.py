"""The program `lighthousefs`, and the one border where errors become words and an exit status.

0 done, 1 the answer is no or it failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import importlib
import keyword
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

from lighthousefs import __version__
from lighthousefs.cli import output
from lighthousefs.control.problems import Problem, describe
from lighthousefs.errors import LighthouseError

INTERRUPTED = 130
COMMANDS = {
    "init": "Make a store.",
    "mount": "Serve a store as a folder.",
    "unmount": "Flush, wait, detach.",
    "status": "How a store is, who serves it, and what it costs.",
    "sync": "Return when everything acknowledged is on disk.",
    "import": "Bring a folder into the project.",
    "export": "Write a moment out as plain files.",
    "git-export": "The past as commits of a git repository.",
    "backup": "Copies of a store, and stores made of them.",
    "log": "What happened, newest first.",
    "watch": "Who does what, live.",
    "report": "What happened, as one page of HTML.",
    "show": "One event whole.",
    "diff": "What differs between two moments.",
    "changes": "Which paths changed since a moment, by whom.",
    "deleted": "What was removed, and the line that brings it back.",
    "blame": "Who made each line of a file.",
    "grep": "In which versions a text stood.",
    "bisect": "The first event at which a command fails.",
    "tag": "Names of moments.",
    "restore": "Make a path what it was.",
    "undo": "Take changes back where nothing followed.",
    "verify": "Whether a store is what was written.",
    "repair": "Mend what can be, list what cannot.",
    "config": "Check settings, show those in force, or all there are.",
}
EPILOG = """\b
A first walk:
  lighthousefs init ~/store                  make a store
  lighthousefs mount ~/store ~/work          serve it: the project is ~/work/current
  echo hello > ~/work/current/a.txt
  lighthousefs log ~/work                    what happened, newest first
  cat ~/work/history/5m-ago/a.txt            the project as it was, as plain folders
  lighthousefs unmount ~/work

\b
TARGET is a store, a mount point, or any path inside a mount.
Exit status: 0 done, 1 the answer is no or it failed, 2 wrong usage, 130 interrupted."""


class _Commands(click.Group):
    """Loads the module of the one command that is run: together they would double the start-up time."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        # Neither a keyword nor a dash can be in the name of a module or a function.
        name = f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name.replace("-", "_")
        command = getattr(importlib.import_module(f"lighthousefs.cli.{name}"), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            # click suggests only what is loaded.
            raise click.exceptions.NoSuchCommand(error.command_name, possibilities=COMMANDS, ctx=ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=_Commands,
    epilog=EPILOG,
    no_args_is_help=False,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="lighthousefs %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """A project as a tree of files in which every change is an event and the past is just more folders.

    `lighthousefs COMMAND --help` shows examples of each command.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command line and leave with its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # A stream that was closed before we began (`>&-`) is None here; nobody is there to read.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # A terminal that has not the letters of a name gets escapes, not an exception.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(_run(given))


def _run(arguments: list[str]) -> int:
    as_json = "--json" in (arguments[: arguments.index("--")] if "--" in arguments else arguments)
    try:
        # Not through click's own main, which has other words and other exit statuses for a closed pipe and an interrupt.
        with cli.make_context("lighthousefs", arguments) as context:
            cli.invoke(context)
        sys.stdout.flush()
        return 0
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read has enough (`| head`); the interpreter's own flush at the end must not complain either.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except click.ClickException as error:
        return _fail(_usage(error, arguments), as_json)
    except LighthouseError as error:
        return _fail(describe(error), as_json)
    except Exception as error:
        if not isinstance(error, OSError):
            return _fail(_unexpected(error), as_json)
        where = f"{error.filename}: " if error.filename is not None else ""
        return _fail(Problem("system", f"{where}{error.strerror or error}", "", 1), as_json)


def _unexpected(error: Exception) -> Problem:
    """For what is no fault of whoever asked. The place is in the message of whoever reports it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    why = f"this should not happen: {error!r} in {Path(last.filename).name}, line {last.lineno}"
    return Problem("internal", why, "if the store's index is damaged: unmount it, then `lighthousefs repair STORE`", 1)


def _usage(error: click.ClickException, arguments: list[str]) -> Problem:
    # The parser tells of a missing value without a context.
    command = " ".join(["lighthousefs", *(name for name in arguments[:1] if name in COMMANDS)])
    if isinstance(error, click.UsageError) and error.ctx is not None:
        command = error.ctx.command_path
    message = error.format_message().replace("\n", " ").rstrip(".")
    hint = f"`{command} --help` shows how"
    if isinstance(error, click.NoSuchOption):
        hint += "; put -- before a name that begins with a dash"
    if message.startswith("Got unexpected extra argument"):
        hint += "; for several files, run it once for each: for F in FILE...; do ...; done"
    return Problem("usage", message, hint, 2)


def _fail(found: Problem, as_json: bool) -> int:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    output.problem(found, as_json=as_json)
    return found.status
