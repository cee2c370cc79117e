"""How a command line ends: a user's mistake, or a full disk, is one line and exit status 2."""

import re
import sys
from collections.abc import Sequence
from typing import Any

import typer

from ssl_bench.errors import StudyError, suggest
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
        given = sys.argv[1:] if arguments is None else arguments
        _leave(_wrong_usage(error, program, given))
    except OSError as error:
        line = refusal(error)
        if line is None:
            raise
        _leave(line)
    sys.exit(status or 0)


def _leave(line: str) -> None:
    tell(f"error: {line}")
    sys.exit(MISTAKE)


def _wrong_usage(error: Any, program: str, arguments: Sequence[str]) -> str:
    """Say which command takes what, by the sort of the error, whose classes typer does not name."""
    context: Any = getattr(error, "ctx", None)
    where = context.command_path if context is not None else program
    sort, text = type(error).__name__, " ".join(error.format_message().split()).rstrip(".")
    if sort == "NoArgsIsHelpError":
        return f"{where}: found no command; known: {', '.join(sorted(context.command.commands))}"
    if unknown := re.match(r"No such command '(.*?)'", text):
        hint = suggest(unknown[1], context.command.commands)
        return f"{where}: no such command {unknown[1]!r}; {hint}"
    if sort == "NoSuchOption":
        options = [name for param in context.command.params for name in param.opts]
        hint = suggest(error.option_name, [*options, "--help"])
        return f"{where}: no such option {error.option_name!r}; {hint}"
    if sort == "MissingParameter":
        found = [word for word in arguments if word.startswith("-")]
        needed = [_name(param) for param in context.command.params if param.required]
        return (
            f"{where}: missing {error.param.param_type_name} {_name(error.param)!r}; "
            f"found: {', '.join(found) or 'none'}; expected: {', '.join(needed)}"
        )
    if sort == "BadOptionUsage":
        return f"{where}: expected a value after {error.option_name!r}, found none"
    return f"{text[0].lower()}{text[1:]}; {where} --help says what it takes"


def _name(param: Any) -> str:
    return str(param.opts[0] if param.param_type_name == "option" else param.name.upper())
