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


def load(room: str, kind: str) -> ModuleType:
    """Import the module of one kind; raise StudyError with the nearest name if there is none."""
    if kind not in kinds(room):
        raise StudyError(f"{room}: unknown kind {kind!r}; {suggest(kind, kinds(room))}")
    return importlib.import_module(f"ssl_bench.{room}.{kind}")
