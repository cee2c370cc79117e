"""Find corpora, upstreams and tasks by the name of their file.

``corpora/manifest.py`` is the corpus kind ``manifest``: adding one is adding a file.
Files whose name starts with an underscore, and ``base.py``, are not kinds.
"""

import importlib
import pkgutil
from functools import cache
from types import ModuleType

from ssl_bench.errors import StudyError, suggest

ROOMS = ("corpora", "upstreams", "tasks")


def kinds(room: str) -> list[str]:
    """List the kinds in a room (``corpora``, ``upstreams`` or ``tasks``), sorted."""
    return list(_found(room))


@cache
def _found(room: str) -> tuple[str, ...]:
    package = importlib.import_module(f"ssl_bench.{room}")
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    return tuple(sorted(name for name in names if name != "base" and not name.startswith("_")))


def load(room: str, kind: str, where: str | None = None) -> ModuleType:
    """Import the module of one kind.

    Args:
        room: ``corpora``, ``upstreams`` or ``tasks``.
        kind: the name of its file.
        where: the entry of a study that names it, for the error's line.

    Raises:
        StudyError: there is no such kind; the line gives the nearest name.
    """
    if kind not in kinds(room):
        raise StudyError(f"{where or room}: unknown kind {kind!r}; {suggest(kind, kinds(room))}")
    return importlib.import_module(f"ssl_bench.{room}.{kind}")
