"""Find interfaces by the name of their file: ``interfaces/hconv.py`` is ``hconv``."""

import importlib
import inspect
import pkgutil
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from SSL_Interface import interfaces
from SSL_Interface.base import Interface
from SSL_Interface.errors import InterfaceError


def names() -> list[str]:
    """List the interfaces, sorted. Files that start with an underscore are not interfaces."""
    modules = pkgutil.iter_modules(interfaces.__path__)
    return sorted(module.name for module in modules if not module.name.startswith("_"))


def find(name: str) -> type[Interface]:
    """Return an interface's class.

    Raises:
        InterfaceError: there is none of that name (the nearest is told), or its file does not
            define exactly one.
    """
    if name not in names():
        raise InterfaceError("interface", one_of(name, names()), repr(name))
    module = importlib.import_module(f"{interfaces.__name__}.{name}")
    classes = [
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Interface) and kind.__module__ == module.__name__
    ]
    if len(classes) != 1:
        raise InterfaceError(name, "one Interface class in its file", len(classes))
    return classes[0]


def create(name: str, num_layers: int = 13, dim: int = 768, **options: Any) -> Interface:
    """Make an interface for states (num_layers, B, T, dim).

    Args:
        name: one of :func:`names`.
        num_layers: L, states that the upstream gives.
        dim: D, their width.
        options: fields of the interface's config; ``layers`` and ``normalize`` go with all.

    Raises:
        InterfaceError: unknown name or option, or an option's value that does not fit.
    """
    kind = find(name)
    known = [field.name for field in fields(kind.Config)]
    known = [option for option in known if option not in ("num_layers", "dim")]
    for option in options:
        if option not in known:
            raise InterfaceError(f"{name}: option", one_of(option, known), repr(option))
    return kind(kind.Config(num_layers=num_layers, dim=dim, **options))


def one_of(name: str, known: list[str]) -> str:
    """Say which names there are and which is nearest, for an error."""
    near = get_close_matches(str(name), known, n=1, cutoff=0.5)
    return f"one of {', '.join(known)}" + (f" (did you mean {near[0]!r}?)" if near else "")
