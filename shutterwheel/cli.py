"""The command line: ``shutterwheel COMMAND``.

Exit codes: 0 all is well; 1 something was found or failed; 2 the command was used wrongly;
130 Ctrl-C. A user's mistake is one line on standard error; a traceback is a bug of ours.

Commands import what is heavy (Kafka clients, the workers) when they run, so that ``--help`` and
shell completion are quick.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from schemas.errors import ShutterwheelError, UsageError

COMMANDS = (
    "up",
    "worker",
    "poll",
    "schedule",
    "device",
    "discover",
    "results",
    "capture",
    "photos",
    "topics",
    "replay",
    "doctor",
    "verify",
    "timelapse",
)
"""Modules of ``shutterwheel.commands``, in the order of the help; each has ``register(app)``."""

USAGE = 2
FAILED = 1
INTERRUPTED = 130

EPILOG = """
Start here:  `shutterwheel up --demo`  runs a broker, workers and simulated cameras.
Then, in another terminal:  `shutterwheel results tail`
"""


class FrontDoor(TyperGroup):
    """The group of all commands; it turns our errors into one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except ShutterwheelError as error:
            lines = getattr(error, "lines", None) or (error.line(),)
            for line in lines:
                typer.echo(f"shutterwheel: {line}", err=True)
            raise typer.Exit(USAGE if isinstance(error, UsageError) else FAILED) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    name="shutterwheel",
    cls=FrontDoor,
    help="Timed photo capture for camera fleets: on time, once, with proof.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"shutterwheel {version('shutterwheel')}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Timed photo capture for camera fleets: on time, once, with proof."""


for _name in COMMANDS:
    if find_spec(f"shutterwheel.commands.{_name}") is None:
        continue
    import_module(f"shutterwheel.commands.{_name}").register(app)


def main() -> int:
    """Run the console script; it ends by SystemExit with the exit code."""
    app(prog_name="shutterwheel")
    return 0
