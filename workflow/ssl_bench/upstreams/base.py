"""What an upstream is: a frozen encoder from waveforms to hidden states.

A kind is a module with

* ``Config``: an :class:`UpstreamConfig` with the keys of its entry in a study;
* ``load(config) -> Upstream``: on the CPU, in fp32; the caller moves it.

and, where it can be said without loading,

* ``size(config) -> (L, D, stride)``, for the plan of a study;

and, where the encoder can be fine-tuned,

* ``parts(upstream) -> Parts``.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ssl_bench.audio import SAMPLE_RATE
from ssl_bench.configuration import Strict

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
"""A SHA-256 in hex digits."""


class UpstreamConfig(Strict):
    """Keys that every upstream entry has."""

    kind: str
    sha256: dict[str, Digest] | None = None
    """Of every file that weights are read from, by its name; where given, others are refused."""

    def inputs(self) -> list[Path]:
        """List the local files that it is read from: a change of one makes its states anew."""
        return []


class Parts(NamedTuple):
    """What fine-tuning has to know of an encoder."""

    blocks: tuple[nn.Module, ...]
    """Its layers, in order; dropout is within them, LayerDrop and masking are around them."""
    convolutions: tuple[nn.Module, ...]
    """What reads samples, or a spectrogram: customarily kept fixed."""
    constant: tuple[nn.Module, ...] = ()
    """Never trained, such as sinusoidal positions."""
    dropouts: tuple[nn.Module, ...] = ()
    """What drops before the first block while it is in training mode, and does nothing else then;
    the modes of what is within are their own."""


class Upstream(nn.Module, ABC):
    """A frozen encoder. Subclasses implement :meth:`encode`.

    An utterance's states do not depend on what it is batched with, beyond rounding.
    """

    stride: int
    """Samples at 16 kHz per frame."""
    files: tuple[Path, ...] = ()
    """Files that the weights were read from; the upstream stage records their hashes."""

    @abstractmethod
    def encode(self, waveforms: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Encode mono 16 kHz waveforms, each (samples,) float32, on the module's device.

        Returns:
            states (L, B, T, D), zero beyond each utterance's length, and lengths (B,) in frames.
        """

    @abstractmethod
    def frames(self, samples: int) -> int:
        """Return how many frames an utterance of this many samples gives."""

    def forward(self, waveforms: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Encode with dropout off and no gradient, whatever mode the module was left in."""
        self.eval()
        with torch.no_grad():
            return self.encode(waveforms)

    def packed(self, waveforms: list[Tensor], normalize: bool, dtype: torch.dtype) -> Tensor:
        """Encode for the stream of features, on a GPU by autocast to ``dtype``.

        Args:
            waveforms: as of :meth:`encode`.
            normalize: whether each state is layer-normed, without gain and offset.
            dtype: of the result.

        Returns:
            states (N, L, D) of the N frames of all utterances, one after the other.
        """
        half = waveforms[0].is_cuda and dtype is not torch.float32
        with torch.autocast(waveforms[0].device.type, dtype if half else None, enabled=half):
            states, lengths = self(waveforms)
            if normalize:
                states = F.layer_norm(states.float(), states.shape[-1:])
        stored = states.to(dtype).permute(1, 2, 0, 3)  # (B, T, L, D)
        return torch.cat([own[:n] for own, n in zip(stored, lengths.tolist(), strict=True)])

    def probe(self) -> tuple[int, int]:
        """Return (L, D), found by encoding one second of low noise."""
        device = next((p.device for p in self.parameters()), torch.device("cpu"))
        noise = torch.randn(SAMPLE_RATE, generator=torch.Generator().manual_seed(0)) * 0.01
        states, _ = self([noise.to(device)])
        return states.shape[0], states.shape[-1]
