"""`lighthousefs config`: the settings of mounts."""

from __future__ import annotations

import os
from pathlib import Path

import click

from lighthousefs.cli import output
from lighthousefs.cli.asking import ask
from lighthousefs.cli.options import PathArgument, json_option, target_argument
from lighthousefs.cli.target import find
from lighthousefs.errors import Unusable


@click.group(
    no_args_is_help=False,
    epilog="""\b
Examples:
  lighthousefs config default > work.toml     all settings, with what each is for; change what you like
  lighthousefs config check work.toml         says what is wrong with it
  lighthousefs mount ~/store ~/work --config work.toml
  lighthousefs config show ~/work             what that mount runs with, as status/config.toml in it""",
)
def config() -> None:
    """Settings of a mount: a TOML file, given to `mount --config`."""


@config.command()
@click.argument("file", type=PathArgument())
@json_option
def check(file: Path, as_json: bool) -> None:
    """Whether a mount would take FILE; exit status 1 if not."""
    from lighthousefs.config import load

    try:
        settings = load(file)
    except Unusable as error:
        # Here it is the answer to a question, not wrong usage.
        raise Unusable(str(error), error.hint) from error
    if as_json:
        output.json_line({"file": os.fspath(file), "settings": settings.model_dump(mode="json")})
    else:
        output.line(f"{file} is good")


@config.command()
@target_argument
@json_option
def show(target: Path, as_json: bool) -> None:
    """What the mount of TARGET runs with."""
    for row in ask(find(target), "config"):
        toml = row.pop("toml")
        if as_json:
            output.json_line(row)
        else:
            _print(toml)


@config.command()
@json_option
def default(as_json: bool) -> None:
    """Print all settings with their defaults.

    A file to begin with: it says what each is for.
    """
    from lighthousefs.config import defaults, described

    if not as_json:
        _print(defaults())
        return
    for name, value, description in described():
        output.json_line({"setting": name, "default": value, "description": description})


def _print(toml: str) -> None:
    for line in toml.splitlines():
        output.line(line)
