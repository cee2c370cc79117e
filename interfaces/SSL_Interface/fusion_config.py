"""Options of a fusion, and what they must be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from SSL_Interface.base import InterfaceConfig
from SSL_Interface.errors import InterfaceError
from SSL_Interface.registry import find, one_of

KINDS = ("weighted_sum", "hconv", "chconv")
"""Ways to merge several upstreams."""


@dataclass
class FusionConfig:
    """Which upstreams to join, and how.

    Args:
        kind: one of ``weighted_sum``, ``hconv``, ``chconv``.
        upstreams: (L_i, D_i) of each, numbers and widths of its states.
        layers: the states to join of each upstream, as an interface's ``layers``; None takes all.
        normalize: layer-normalise every state first.
        dim: D, the width in which upstreams meet; None takes the largest.
        resize: how a width D_i becomes D before a sum: ``project`` (learned) or ``interpolate``.
        check_finite: as an interface's, on the states of every upstream.
        interface_options: options of the interface behind the merging, such as ``output_dim``,
            ``kernel_size`` and ``stride`` of ``hconv`` and ``chconv``.
    """

    kind: str
    upstreams: Sequence[tuple[int, int]]
    layers: Sequence[Sequence[int] | None] | None = None
    normalize: bool = True
    dim: int | None = None
    resize: str = "project"
    check_finite: bool = False
    interface_options: Mapping[str, Any] = field(default_factory=dict)


def interface_behind(kind: str) -> str:
    """Return the name of the interface that joins what a kind has merged."""
    return "weighted_sum" if kind == "weighted_sum" else "hconv"


def own_options() -> list[str]:
    """List the options of a fusion itself, which are not those of the interface behind it."""
    others = ("kind", "upstreams", "interface_options")
    return [option.name for option in fields(FusionConfig) if option.name not in others]


def check(config: FusionConfig) -> None:
    """Check what the parts that it is made of do not check themselves.

    Raises:
        InterfaceError: a value does not fit, or the interface behind has no such option.
    """
    _one_of("kind", config.kind, KINDS)
    _one_of("resize", config.resize, ("project", "interpolate"))
    upstreams, layers, dim = config.upstreams, config.layers, config.dim
    pairs = _listed(upstreams) and all(_listed(pair) and len(pair) == 2 for pair in upstreams)
    if not pairs or not upstreams:
        raise InterfaceError("fusion: upstreams", "pairs (layers, width)", repr(upstreams))
    if layers is not None and not (_listed(layers) and len(layers) == len(upstreams)):
        expected = f"{len(upstreams)} lists of layers, one for each upstream"
        raise InterfaceError("fusion: layers", expected, repr(layers))
    if dim is not None and (isinstance(dim, bool) or not isinstance(dim, int) or dim < 1):
        raise InterfaceError("fusion: dim", "a whole number above zero", repr(dim))
    given: object = config.interface_options
    if not isinstance(given, Mapping):
        raise InterfaceError("fusion: interface_options", "options by name", repr(given))
    shared = {option.name for option in fields(InterfaceConfig)}
    named = [option.name for option in fields(find(interface_behind(config.kind)).Config)]
    named = [option for option in named if option not in shared]
    for option in given:
        if option not in named:
            expected = one_of(option, [*own_options(), *named])
            raise InterfaceError(f"fusion: {config.kind}: option", expected, repr(option))


def _listed(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _one_of(option: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise InterfaceError(f"fusion: {option}", f"one of {', '.join(known)}", repr(value))
