"""HuBERT, wav2vec2, WavLM and data2vec-audio encoders of Hugging Face transformers.

States follow s3prl's order: state 0 is the projected CNN output after the positional convolution
(the first block's input), state i the output of block i, and the last state the encoder's output,
which in pre-LN models is the only one behind the final LayerNorm. docs/upstreams.md lists where the
two implementations differ.
"""

import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_bench.errors import StudyError
from ssl_bench.upstreams._blocks import BlockInputs
from ssl_bench.upstreams._hugging_face import HuggingFaceConfig, read_architecture, read_model
from ssl_bench.upstreams._masking import (
    MaskedConvInput,
    MaskedGroupNorm,
    conv_lengths,
    frame_mask,
    pad,
)
from ssl_bench.upstreams.base import Parts, Upstream

FAMILIES = ("hubert", "wav2vec2", "wavlm", "data2vec-audio")
PACKED = ("hubert", "wav2vec2", "wavlm")
"""Families that a GPU encodes without padding; data2vec has several positional convolutions."""
PARTS = ("feature_extractor.", "feature_projection.", "encoder.", "masked_spec_embed")


class Config(HuggingFaceConfig):
    """Keys of an upstream of kind ``transformers``."""

    normalize: bool | None = None
    """Zero mean and unit variance for each waveform; None: as ``preprocessor_config.json`` says.

    The hub's copies of wav2vec2 Base and HuBERT Base say true, fairseq and s3prl say false: set it
    to false to reproduce numbers made with s3prl.
    """


class TransformersUpstream(Upstream):
    """A wav2vec2-like encoder: unpadded convolutions, positional convolution, blocks.

    Args:
        model: ``HubertModel``, ``Wav2Vec2Model``, ``WavLMModel`` or ``Data2VecAudioModel``. Its
            normalisation and positional layers are wrapped in place.
        normalize: whether each waveform gets zero mean and unit variance.
    """

    def __init__(self, model: nn.Module, normalize: bool) -> None:
        super().__init__()
        self.model = model.requires_grad_(False)
        self.normalize = normalize
        config: Any = model.config
        self.kernels, self.strides = tuple(config.conv_kernel), tuple(config.conv_stride)
        self.stride = math.prod(self.strides)
        self.receptive_field = 1
        for kernel, stride in zip(reversed(self.kernels), reversed(self.strides), strict=True):
            self.receptive_field = (self.receptive_field - 1) * stride + kernel
        self._group_norm: MaskedGroupNorm | None = None
        parts: Any = model
        first = parts.feature_extractor.conv_layers[0]
        if isinstance(getattr(first, "layer_norm", None), nn.GroupNorm):
            self._group_norm = first.layer_norm = MaskedGroupNorm(first.layer_norm)
        # Only data2vec stacks several positional convolutions, and only the first sees a mask.
        position = parts.encoder.pos_conv_embed
        self._positional: list[MaskedConvInput] = []
        if hasattr(position, "layers"):
            position.layers = nn.ModuleList(MaskedConvInput(layer) for layer in position.layers)
            self._positional = list(position.layers)
        self._inputs = BlockInputs(parts.encoder.layers)
        self._packed: tuple[torch.dtype, Callable[[list[Tensor]], Tensor]] | None = None

    def frames(self, samples: int) -> int:
        """See :meth:`Upstream.frames`: the arithmetic of unpadded convolutions."""
        return int(conv_lengths(torch.tensor(samples), self.kernels, self.strides))

    def encode(self, waveforms: list[Tensor]) -> tuple[Tensor, Tensor]:
        """See :meth:`Upstream.encode`; T is the length of the longest utterance.

        Raises:
            StudyError: a waveform is shorter than the receptive field.
        """
        shortest = self._demand_a_frame(waveforms)
        padded, samples = pad(waveforms, self.normalize)
        lengths = conv_lengths(samples, self.kernels, self.strides)
        frames = int(lengths.max())
        # Without padding attention needs no mask, and unmasked attention has faster kernels.
        ragged = shortest < padded.shape[1]
        mask = frame_mask(samples, padded.shape[1]).long() if ragged else None
        valid = frame_mask(lengths, frames)
        if self._group_norm is not None:
            first = conv_lengths(samples, self.kernels[:1], self.strides[:1])
            self._group_norm.lengths = first if ragged else None
        for layer in self._positional:
            layer.mask = valid if ragged else None
        with self._inputs as inputs:
            last = self.model(padded, attention_mask=mask).last_hidden_state
            states = torch.stack([*inputs, last])
        return states.mul_(valid[None, :, :, None]) if ragged else states, lengths

    def _demand_a_frame(self, waveforms: list[Tensor]) -> int:
        """Return the samples of the shortest waveform, which must give a frame at least."""
        shortest = min(len(w) for w in waveforms)
        if shortest < self.receptive_field:
            raise StudyError(
                f"upstream: a recording has {shortest} samples at 16 kHz, "
                f"expected at least {self.receptive_field} (one frame)"
            )
        return shortest

    def packed(self, waveforms: list[Tensor], normalize: bool, dtype: torch.dtype) -> Tensor:
        """See :meth:`Upstream.packed`; without padding where the family and the GPU allow it.

        The weights are copied to ``dtype`` at the first call: later changes are not seen.
        """
        half = waveforms[0].is_cuda and dtype is not torch.float32
        if not half or not packable(self.model.config):
            return super().packed(waveforms, normalize, dtype)
        self._demand_a_frame(waveforms)
        if self._packed is None or self._packed[0] is not dtype:
            from ssl_bench.upstreams._packed import PackedEncoder

            self._packed = dtype, PackedEncoder(self.model, self.normalize, dtype)
        states = self._packed[1](waveforms)
        return F.layer_norm(states, states.shape[-1:]) if normalize else states


def packable(config: Any) -> bool:
    """Whether ``_packed.py`` has all that such a model consists of, and this GPU its kernels."""
    return (
        config.model_type in PACKED
        and config.hidden_act == config.feat_extract_activation == "gelu"
        and not getattr(config, "conv_pos_batch_norm", False)
        and getattr(config, "adapter_attn_dim", None) is None
        and config.hidden_size // config.num_attention_heads <= 256
        and find_spec("triton") is not None
        and torch.cuda.get_device_capability() >= (8, 0)
    )


def load(config: Config) -> TransformersUpstream:
    """Load an encoder on the CPU in fp32.

    Raises:
        StudyError: the model cannot be found, is of another family, or its weights do not fit.
    """
    architecture = read_architecture(config, FAMILIES)
    if getattr(architecture, "add_adapter", False):
        architecture.add_adapter = False  # an adapter behind the encoder is no hidden layer of it
    architecture.layerdrop = 0.0
    # The mask embedding is for pre-training; checkpoints often leave it out.
    model, files = read_model(config, architecture, PARTS, unused=("masked_spec_embed",))
    normalize = config.normalize
    if normalize is None:
        normalize = _normalizes(config, architecture)
    upstream = TransformersUpstream(model, normalize).eval()
    upstream.files = files
    return upstream


def parts(upstream: TransformersUpstream) -> Parts:
    """Return the encoder's blocks and its convolutions over samples."""
    model: Any = upstream.model
    return Parts(tuple(model.encoder.layers), (model.feature_extractor,), dropouts=dropouts(model))


def dropouts(model: Any) -> tuple[nn.Module, ...]:
    """Return what drops before the first block, in a model of transformers, fairseq or s3prl.

    fairseq's encoder does so itself: of its own modes only LayerDrop's would be another, which
    s3prl sets to 0.
    """
    projected = getattr(getattr(model, "feature_projection", model), "dropout", None)
    first = [getattr(model, "dropout_input", projected)]
    own = [part for part in model.encoder.children() if isinstance(part, nn.Dropout)]
    return tuple(part for part in [*first, *(own or [model.encoder])] if part is not None)


def _normalizes(config: Config, architecture: Any) -> bool:
    from transformers import FeatureExtractionMixin

    local = Path(config.model)
    if local.is_dir() and not (local / "preprocessor_config.json").is_file():
        # fairseq's rule: models whose every convolution has a LayerNorm take normalised waves.
        return getattr(architecture, "feat_extract_norm", "layer") == "layer"
    settings, _ = FeatureExtractionMixin.get_feature_extractor_dict(config.model, **config.source)
    return bool(settings.get("do_normalize", True))
