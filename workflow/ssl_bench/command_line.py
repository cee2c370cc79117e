"""How a command line ends: a user's mistake, or a full disk, is one line and exit status 2."""

import sys
from collections.abc import Sequence
from typing import Any

import typer

from ssl_bench.errors import StudyError
from ssl_bench.progress import tell
from ssl_bench.whole import refusal

MISTAKE = 2
"""Exit status of what the user can mend."""
_USAGE: Any = typer.BadParameter.__mro__[1]  # typer names no error of a missing option or command


def run(app: typer.Typer, program: str, arguments: Sequence[str] | None = None) -> None:
    """Run a command and leave with its status; ``program`` is what the user typed before it.

    Raises:
        SystemExit: always.
    """
    command = typer.main.get_command(app)
    try:
        status = command.main(arguments, prog_name=program, standalone_mode=False)
    except StudyError as error:
        _leave(str(error))
    except _USAGE as error:
        _leave(_wrong_usage(error, program))
    except OSError as error:
        line = refusal(error)
        if line is None:
            raise
        _leave(line)
    sys.exit(status or 0)


def _leave(line: str) -> None:
    tell(f"error: {line}")
    sys.exit(MISTAKE)


def _wrong_usage(error: Any, program: str) -> str:
    context = getattr(error, "ctx", None)
    where = context.command_path if context is not None else program
    if type(error).__name__ == "NoArgsIsHelpError":
        return f"no command; {where} --help lists them"
    text = " ".join(error.format_message().split()).rstrip(".")
    return f"{text[0].lower()}{text[1:]}; {where} --help says what it takes"
