"""A user's mistake, told in one line."""

from collections.abc import Iterable
from difflib import get_close_matches


class StudyError(Exception):
    """Something the user gave is wrong: says where, what was found and what was expected.

    The command line prints it as one line and exits with status 2.
    """


def suggest(name: str, known: Iterable[str]) -> str:
    """Return the tail of an error line: the nearest known name, then all of them."""
    known = sorted(known)
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}known: {', '.join(known) or 'none'}"
