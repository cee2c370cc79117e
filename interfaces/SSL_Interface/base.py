"""What every interface shares: checks, layer selection, normalisation, padding, layer profile."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from SSL_Interface.errors import InterfaceError
from SSL_Interface.profiles import attribution, shares, weighted_norms
from SSL_Interface.sharing import Shareable
from SSL_Interface.working import casts, frames_axis, no_autocast

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
FLOATS = (torch.bfloat16, torch.float16, torch.float32, torch.float64)

States = Tensor | Sequence[Tensor]
"""Hidden states: (L, B, T, D), or L tensors (B, T, D)."""


@dataclass
class InterfaceConfig:
    """Options that every interface has.

    Args:
        num_layers: L, states that the upstream gives (its input to the first block included).
        dim: D, width of a state.
        layers: the states to join, in this order, as indices into L (negative ones count from the
            end); None takes all.
        normalize: layer-normalise every state over D first, without learned scale or shift.
        check_finite: raise InterfaceError on NaN or infinite states in the valid frames. Off by
            default: it reads all states once more, and on a GPU waits for them. Skipped under
            ``vmap`` and in compiled or exported programs, where values cannot be looked at.
    """

    num_layers: int = 13
    dim: int = 768
    layers: Sequence[int] | None = None
    normalize: bool = True
    check_finite: bool = False


class Interface(Shareable):
    """Join the hidden layers of an upstream: states (L, B, T, D) → features (B, T, output_dim).

    A subclass sets ``Config``, defines :meth:`join` and :meth:`macs_per_frame`, and passes its
    output width to ``super().__init__`` if it is not D. It must be plain tensor code without
    data-dependent shapes, so that it runs under ``torch.func.vmap`` with stacked parameters.
    """

    Config: ClassVar[type[InterfaceConfig]] = InterfaceConfig
    needs_fit: ClassVar[bool] = False
    """Whether ``fit_batch`` and ``fit_finish`` must see data before the first forward."""
    stacks_frames: ClassVar[bool] = False
    """Where states come as a list, stack them frame by frame, (B, T, N, D) in memory, not layer by
    layer: for interfaces that read all layers of a frame side by side. ``join`` sees (N, B, T, D)
    either way."""
    one_type: bool = False
    """Whether :meth:`join` wants states in its parameters' type, where autocast is off."""
    profile_kind: str = "gradient × input"
    """What :meth:`layer_profile` measures: this, ``weight × norm`` or ``attention``."""

    layers: tuple[int, ...]
    """Indices of the states that are joined, in order, all non-negative."""

    def __init__(self, config: InterfaceConfig) -> None:
        super().__init__()
        check_config(
            self.name,
            self.Config if issubclass(self.Config, InterfaceConfig) else InterfaceConfig,
            config,
        )
        self.config = config
        self.num_layers = self.positive("num_layers", config.num_layers)
        self.dim = self.positive("dim", config.dim)
        self.normalize = self.flag("normalize", config.normalize)
        self.check_finite = self.flag("check_finite", config.check_finite)
        self.layers = self._selection(config.layers)
        self._output_dim = self.dim

    @property
    @override
    def output_dim(self) -> int:
        """Width of the features."""
        return self._output_dim

    def forward(self, states: States, lengths: Tensor | None = None) -> Tensor:
        """Join the layers of a batch.

        Args:
            states: (L, B, T, D), or a sequence of L tensors (B, T, D).
            lengths: (B,) integers, valid frames of each utterance; None takes all T as valid.
                Their values are checked, so keep them on the CPU: elsewhere this waits for the
                device. Under ``vmap`` and in compiled or exported programs they are not.

        Returns:
            (B, T, output_dim), zero from each utterance's length on. What the states hold there has
            no influence; on gradients, as long as it is finite (0 · NaN is NaN).

        Raises:
            InterfaceError: rank, L, D, type, device or lengths do not fit, or ``check_finite``
                found something.
        """
        prepared = self.prepare(states, lengths)
        if lengths is None:
            return self.join_valid(prepared)
        frames = valid(lengths, prepared[0])
        return self.join_valid(prepared, frames).masked_fill(~frames[..., None], 0.0)

    def join(self, states: Tensor) -> Tensor:
        """Join selected, normalised states (N, B, T, D), N = len(layers) → (B, T, output_dim)."""
        raise NotImplementedError

    def join_valid(self, states: Tensor, frames: Tensor | None = None) -> Tensor:
        """:meth:`join` for an interface that looks beyond a frame; override it only for that.

        ``frames`` (B, T) says which are not padding; None: all. What it gives for padding does
        not matter, :meth:`forward` sets that to zero.
        """
        return self.join(states)

    def macs_per_frame(self) -> int:
        """Multiply-accumulates that :meth:`join` spends on one frame.

        Counted are sums over layers and matrix products; not biases, activations, normalisation,
        nor what is paid once an utterance or once a batch, such as products of parameters.
        """
        raise NotImplementedError

    def layer_weights(self) -> Tensor | None:
        """The raw weight of every layer, (L,) on CPU in fp32; None where there is no such thing.

        Weights alone do not say how much a layer counts: norms differ between layers.
        """
        weights = self.mixing_weights()
        return None if weights is None else self._spread(weights)

    def mixing_weights(self) -> Tensor | None:
        """The weights of the N selected layers (N,), where the interface sums over layers."""
        return None

    def layer_profile(self, states: States, lengths: Tensor | None = None) -> Tensor:
        """Say how much each layer counts on these states; ``profile_kind`` says in which sense.

        * ``weight × norm``: a layer's weight times the mean L2 norm of its (selected, normalised)
          state over the valid frames.
        * ``attention``: the mean attention of the query on the layer, over heads and valid frames.
        * ``gradient × input``: |Σ_d s_d · ∂‖y‖₂/∂s_d|, averaged over the valid frames, for state s
          and feature vector y, taken behind the normalisation.

        Arguments and errors as :meth:`forward`; no frame at all is one too. Dropout is off
        meanwhile.

        Returns:
            (L,) on CPU in fp32, summing to one; zero for layers that are not selected (and all
            zero if no layer has any effect).
        """
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                prepared = self.prepare(states, lengths)
                if not prepared.numel():
                    raise self.error("states", "at least one frame", tuple(prepared.shape))
                frames = prepared.new_ones(prepared.shape[1:3], dtype=torch.bool)
                if lengths is not None:
                    frames = valid(lengths, prepared[0])
                return self._spread(shares(self.profile(prepared, frames)))
        finally:
            self.train(training)

    def profile(self, states: Tensor, frames: Tensor) -> Tensor:
        """Profile prepared states (N, B, T, D) on valid frames (B, T) → (N,), any scale."""
        if self.profile_kind == "weight × norm":
            weights = self.mixing_weights()
            if weights is None:
                raise self.error("mixing_weights", "weights, as profile_kind says", None)
            return weighted_norms(weights, states, frames)
        return attribution(lambda leaf: self.join_valid(leaf, frames), states, frames)

    def prepare(self, states: States, lengths: Tensor | None = None) -> Tensor:
        """Check, select and normalise: the (N, B, T, D) that :meth:`join` takes."""
        selected = self._select(states)
        self.check_place(selected, self, self.one_type)
        if lengths is not None:
            self._check_lengths(lengths, *selected.shape[1:3])
        if self.check_finite and readable(selected):
            self._check_finite(selected, lengths)
        if not self.normalize:
            return selected
        return layer_norm(selected)

    def check_place(self, states: Tensor, owner: nn.Module, one_type: bool) -> None:
        """Check that states lie where the owner's tensors do; of one type, that theirs is its.

        Raises:
            InterfaceError: they do not.
        """
        own = next(itertools.chain(owner.parameters(), owner.buffers()), None)
        if own is None:
            return
        if states.device != own.device:
            raise self.error("states", f"on {own.device}, as the parameters", states.device)
        if one_type and states.dtype != own.dtype and not casts(states):
            raise self.error("states", f"{own.dtype}, as the parameters, or autocast", states.dtype)

    def positive(self, option: str, value: int) -> int:
        """Return a whole number above zero, or raise InterfaceError for that option."""
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.error(option, "a whole number above zero", repr(value))
        return value

    def flag(self, option: str, value: bool) -> bool:
        """Return True or False, or raise InterfaceError for that option."""
        if not isinstance(value, bool):
            raise self.error(option, "True or False", repr(value))
        return value

    def share(self, option: str, value: float) -> float:
        """Return a number from 0 to below 1, or raise InterfaceError for that option."""
        if not isinstance(value, int | float) or not 0 <= value < 1:
            raise self.error(option, "from 0 to below 1", repr(value))
        return value

    def error(self, argument: str, expected: str, found: object) -> InterfaceError:
        """Make the error for one argument of this interface."""
        return InterfaceError(f"{self.name}: {argument}", expected, found)

    @override
    def card_rows(self) -> dict[str, str]:
        everything = len(self.layers) == self.num_layers
        return {
            "states that it takes": f"{self.num_layers} layers × batch × frames × {self.dim}",
            "layers that it joins": "all" if everything else ", ".join(map(str, self.layers)),
            "normalises the states first": "yes" if self.normalize else "no",
        }

    @override
    def extra_repr(self) -> str:
        chosen = "" if len(self.layers) == self.num_layers else f", layers={list(self.layers)}"
        return (
            f"num_layers={self.num_layers}, dim={self.dim}{chosen}, "
            f"normalize={self.normalize}, output_dim={self.output_dim}"
        )

    def _selection(self, layers: Sequence[int] | None) -> tuple[int, ...]:
        if layers is None:
            return tuple(range(self.num_layers))
        if not isinstance(layers, Sequence) or not layers:
            raise self.error("layers", "a non-empty list of layer indices or None", repr(layers))
        chosen = tuple(self.layer_index("layers", layer) for layer in layers)
        if len(set(chosen)) < len(chosen):
            raise self.error("layers", "each layer once", list(layers))
        return chosen

    def layer_index(self, option: str, layer: int, count: int | None = None) -> int:
        """Return an index into ``count`` (default L) layers as a non-negative one."""
        count = self.num_layers if count is None else count
        whole = isinstance(layer, int) and not isinstance(layer, bool)
        if not whole or not -count <= layer < count:
            raise self.error(option, f"a layer from {-count} to {count - 1}", repr(layer))
        return layer % count

    def _select(self, states: States) -> Tensor:
        if not isinstance(states, Tensor):
            self._check_list(states)
            return self._stack(states)
        self._check_kind(states)
        if states.ndim != 4 or states.shape[0] != self.num_layers or states.shape[-1] != self.dim:
            raise self.error(
                "states", f"({self.num_layers}, B, T, {self.dim})", tuple(states.shape)
            )
        step = self.layers[1] - self.layers[0] if len(self.layers) > 1 else 1
        if step > 0 and self.layers == tuple(range(self.layers[0], self.layers[-1] + 1, step)):
            return states[self.layers[0] : self.layers[-1] + 1 : step]
        return self._stack(states)

    def _check_list(self, states: Sequence[Tensor]) -> None:
        if not isinstance(states, Sequence) or not all(isinstance(s, Tensor) for s in states):
            raise self.error("states", "a tensor or a list of tensors", type(states).__name__)
        for state in states:
            self._check_kind(state)
        # Compared, not put into a set: sizes that torch.export leaves open have no hash.
        shapes = [tuple(state.shape) for state in states]
        fits = len(shapes) == self.num_layers and all(shape == shapes[0] for shape in shapes)
        if not fits or len(shapes[0]) != 3 or shapes[0][-1] != self.dim:
            raise self.error(
                "states",
                f"{self.num_layers} tensors of one shape (B, T, {self.dim})",
                f"{len(shapes)} of {', '.join(map(str, sorted(set(shapes)))) or 'nothing'}",
            )
        if any(state.device != states[0].device for state in states):
            found = ", ".join(sorted({str(state.device) for state in states}))
            raise self.error("states", "tensors on one device", found)

    def _stack(self, states: States) -> Tensor:
        """Copy the selected layers into one (N, B, T, D); a single one is not copied."""
        chosen = [states[layer] for layer in self.layers]
        if len(chosen) == 1:
            return chosen[0][None]
        if self.stacks_frames:
            return torch.stack(chosen, 2).movedim(2, 0)
        return torch.stack(chosen)

    def _check_kind(self, states: Tensor) -> None:
        # Before anything asks for a shape, which a nested tensor does not have.
        if states.is_nested or states.layout != torch.strided:
            found = "a nested tensor" if states.is_nested else states.layout
            raise self.error("states", "a dense tensor", found)
        if states.dtype not in FLOATS:
            raise self.error("states", "floating point of 16, 32 or 64 bits", states.dtype)

    def _check_lengths(self, lengths: Tensor, batch: int, time: int) -> None:
        if not isinstance(lengths, Tensor):
            raise self.error("lengths", f"a tensor of integers ({batch},)", repr(lengths))
        if lengths.layout != torch.strided:
            raise self.error("lengths", "a dense tensor", lengths.layout)
        if lengths.shape != (batch,) or lengths.dtype not in INTEGERS:
            raise self.error(
                "lengths", f"integers ({batch},)", f"{lengths.dtype} {tuple(lengths.shape)}"
            )
        if readable(lengths) and ((lengths < 1) | (lengths > time)).any():
            raise self.error("lengths", f"values from 1 to {time} frames", lengths.tolist())

    def _check_finite(self, states: Tensor, lengths: Tensor | None) -> None:
        wrong = ~states.isfinite().all(-1)  # (N, B, T)
        if lengths is not None:
            wrong &= valid(lengths, states[0])
        if wrong.any():
            layer, utterance, frame = wrong.nonzero()[0].tolist()
            raise self.error(
                "states",
                "finite values (check_finite is on)",
                f"NaN or infinity in {int(wrong.sum())} vectors, the first in layer "
                f"{self.layers[layer]}, utterance {utterance}, frame {frame}",
            )

    def _spread(self, values: Tensor) -> Tensor:
        """Place the values of the N selected layers (N,) among all L, on CPU in fp32."""
        spread = torch.zeros(self.num_layers)
        spread[list(self.layers)] = values.detach().float().cpu()
        return spread


def check_config(name: str, kind: type, config: object) -> None:
    """Check that a configuration has the options of its kind.

    Raises:
        InterfaceError: one is not there.
    """
    for option in fields(kind):
        if not hasattr(config, option.name):
            found = f"{type(config).__name__} without {option.name!r}"
            raise InterfaceError(f"{name}: config", f"a {kind.__name__}", found)


def layer_norm(states: Tensor) -> Tensor:
    """Normalise (N, B, T, D) over D, without learned parameters, in the dtype of the states."""
    axis = frames_axis(states)
    states = states.movedim(0, axis)
    # Autocast would widen bf16 states to fp32 here, though the kernel sums in fp32 anyway.
    with no_autocast(states):
        return F.layer_norm(states, states.shape[-1:]).movedim(axis, 0)


def valid(lengths: Tensor, features: Tensor) -> Tensor:
    """Return the mask (B, T) of the frames of features (B, T, …) that are not padding."""
    frames = torch.arange(features.shape[1], device=features.device)
    return frames < lengths.to(features.device)[:, None]


def readable(tensor: Tensor) -> bool:
    """Whether a tensor's values can be looked at: not under vmap, tracing or graph capture."""
    if torch.compiler.is_compiling() or torch._C._functorch.is_batchedtensor(tensor):
        return False
    return not tensor.is_meta and not (tensor.is_cuda and torch.cuda.is_current_stream_capturing())
