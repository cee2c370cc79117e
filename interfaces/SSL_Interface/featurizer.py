"""Any interface in the place of s3prl's Featurizer (``s3prl.nn.Featurizer``).

Constructor, call and properties are s3prl's; ``interface`` says how the layers are joined. Nothing
of s3prl is imported: an upstream is what has ``hidden_sizes`` and ``downsample_rates``.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from SSL_Interface.base import Interface, readable
from SSL_Interface.errors import InterfaceError
from SSL_Interface.registry import create


class Featurizer(nn.Module):
    """Join the hidden states of an s3prl upstream.

    With the weighted sum the features are those of s3prl's Featurizer, whose state dicts load. Two
    things differ: features are zero behind an utterance's length, and one selected layer is enough.
    As in s3prl, layers are joined in the upstream's order whatever that of ``layer_selections``,
    and ``normalize`` has no effect on an upstream of one layer.

    Args:
        upstream: ``s3prl.nn.S3PRLUpstream`` or what looks like it; only its sizes are read.
        layer_selections: the layers to join, as indices into the upstream's; None takes all.
        normalize: layer-normalise every state first.
        interface: a name of ``SSL_Interface.names()``, or an Interface. An Interface brings its own
            layers, normalisation and options.
        options: of the named interface.

    Raises:
        InterfaceError: the upstream's layers differ in width or stride, the Interface is not made
            for it, or an option does not fit.
    """

    def __init__(
        self,
        upstream: Any,
        layer_selections: Sequence[int] | None = None,
        normalize: bool = False,
        interface: str | Interface = "weighted_sum",
        **options: Any,
    ) -> None:
        super().__init__()
        count, dim = _same(upstream, "hidden_sizes", "width")
        _, self._downsample_rate = _same(upstream, "downsample_rates", "stride")
        if isinstance(interface, Interface):
            given = {"layer_selections": layer_selections, "normalize": normalize or None} | options
            self.interface = _fitting(interface, count, dim, given)
        elif isinstance(interface, nn.Module):
            raise _error("interface", "a name or an Interface", type(interface).__name__)
        else:
            self.interface = create(
                interface,
                count,
                dim,
                layers=_in_order(layer_selections, count),
                normalize=normalize if count > 1 else False,
                **options,
            )
        if hasattr(self.interface, "weighte_sum_weights"):
            self.register_load_state_dict_pre_hook(_rename_weights)

    @property
    def output_size(self) -> int:
        """Width of the features."""
        return self.interface.output_dim

    @property
    def downsample_rate(self) -> int:
        """Samples of the 16 kHz waveform that one frame stands for."""
        return self._downsample_rate

    def forward(
        self, all_hs: Sequence[Tensor], all_lens: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Join a batch.

        Args:
            all_hs: the states of every layer of the upstream, L tensors (B, T, D).
            all_lens: their valid frames, L tensors (B,), the same for all layers.

        Returns:
            Features (B, T, output_size), zero from each utterance's length on, and lengths (B,).

        Raises:
            InterfaceError: number, shapes or lengths of the layers do not fit.
        """
        lengths = self._lengths(all_lens)
        return self.interface(all_hs, lengths), lengths

    def _lengths(self, all_lens: Sequence[Tensor]) -> Tensor:
        """Return the lengths that all joined layers have."""
        count = self.interface.num_layers
        if not isinstance(all_lens, Sequence | Tensor) or len(all_lens) != count:
            found = len(all_lens) if isinstance(all_lens, Sequence) else type(all_lens).__name__
            raise _error("all_lens", f"lengths of {count} layers", found)
        for lengths in all_lens:
            if not isinstance(lengths, Tensor):
                raise _error("all_lens", "a tensor of integers for each layer", repr(lengths))
        first, *others = (all_lens[layer] for layer in self.interface.layers)
        if any(lengths.shape != first.shape for lengths in others) or (
            others and readable(first) and bool((torch.stack(others) != first).any())
        ):
            raise _error(
                "all_lens",
                "the same lengths for every layer",
                [lengths.tolist() for lengths in (first, *others)],
            )
        return first


def _fitting(interface: Interface, count: int, dim: int, given: dict[str, Any]) -> Interface:
    """Return an Interface that is made for the upstream, without a second set of options."""
    for option, value in given.items():
        if value is not None:
            raise _error(option, "nothing: the Interface that was given has its own", repr(value))
    if (interface.num_layers, interface.dim) != (count, dim):
        raise _error(
            "interface",
            f"one for the upstream's {count} layers of width {dim}",
            f"{interface.name} for {interface.num_layers} of {interface.dim}",
        )
    return interface


def _in_order(layers: Sequence[int] | None, count: int) -> Sequence[int] | None:
    """Sort layers as the upstream has them; what is not a list of numbers is told later."""
    if not isinstance(layers, list | tuple) or not all(isinstance(layer, int) for layer in layers):
        return layers
    return sorted(layers, key=lambda layer: layer % count)


def _same(upstream: Any, name: str, what: str) -> tuple[int, int]:
    """Return how many layers an upstream has, and the one size that all have."""
    sizes = getattr(upstream, name, None)
    if not isinstance(sizes, list | tuple) or not sizes:
        raise _error("upstream", f"an upstream of s3prl.nn, with {name}", type(upstream).__name__)
    if len(set(sizes)) != 1:
        raise _error(f"upstream.{name}", f"one {what} for all layers", list(sizes))
    return len(sizes), sizes[0]


def _error(argument: str, expected: str, found: object) -> InterfaceError:
    return InterfaceError(f"featurizer: {argument}", expected, found)


def _rename_weights(
    module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: object
) -> None:
    """Take in a state dict of s3prl's Featurizer, which calls the weights ``weights``."""
    if f"{prefix}weights" in state_dict:
        name = f"{prefix}interface.weighte_sum_weights"
        state_dict[name] = state_dict.pop(f"{prefix}weights")
