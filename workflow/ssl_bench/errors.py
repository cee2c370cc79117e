"""A user's mistake, told in one line."""

from collections.abc import Iterable
from difflib import get_close_matches


class StudyError(Exception):
    """Something the user gave is wrong: says where, what was found and what was expected.

    The command line prints it as one line and exits with status 2.
    """


def suggest(name: str, known: Iterable[str], said: str = "known") -> str:
    """Return the tail of an error line: the nearest known name, then all of them.

    Args:
        name: what was found.
        known: what might have been meant.
        said: the word before the list.
    """
    known = sorted(known)
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}{said}: {', '.join(known) or 'none'}"


def no_column(name: str, found: Iterable[str], expected: Iterable[str]) -> str:
    """Say that a table lacks a column: the nearest that it has, all of them, those it should."""
    return f"no column {name!r}; {suggest(name, found, 'found')}; expected: {', '.join(expected)}"
