"""HuBERT, wav2vec2, WavLM and data2vec-audio encoders of Hugging Face transformers.

States follow s3prl's order: state 0 is the projected CNN output after the positional convolution
(the first block's input), state i the output of block i, and the last state the encoder's output,
which in pre-LN models is the only one behind the final LayerNorm. They are taken with hooks: what
``output_hidden_states`` holds at the end has changed between releases of transformers.
"""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssl_bench.errors import StudyError, suggest
from ssl_bench.upstreams._masking import (
    MaskedConvInput,
    MaskedGroupNorm,
    conv_lengths,
    frame_mask,
    pad,
)
from ssl_bench.upstreams.base import Upstream, UpstreamConfig

FAMILIES = ("hubert", "wav2vec2", "wavlm", "data2vec-audio")


class Config(UpstreamConfig):
    """Keys of an upstream of kind ``transformers``."""

    model: str
    """Hub id, or a local folder in the Hugging Face format."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    untrained: bool = False
    """Random weights in the same architecture: a baseline."""
    seed: int = 0
    """Seed of the random weights."""
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
        self._inputs: list[Tensor] = []
        for block in parts.encoder.layers:
            block.register_forward_pre_hook(self._keep_input, with_kwargs=True)

    def _keep_input(self, block: nn.Module, args: tuple[Tensor, ...], kwargs: Any) -> None:
        self._inputs.append(args[0] if args else kwargs["hidden_states"])

    def frames(self, samples: int) -> int:
        """See :meth:`Upstream.frames`: the arithmetic of unpadded convolutions."""
        return int(conv_lengths(torch.tensor(samples), self.kernels, self.strides))

    def encode(self, waveforms: list[Tensor]) -> tuple[Tensor, Tensor]:
        """See :meth:`Upstream.encode`; T is the length of the longest utterance.

        Raises:
            StudyError: a waveform is shorter than the receptive field.
        """
        shortest = min(len(w) for w in waveforms)
        if shortest < self.receptive_field:
            raise StudyError(
                f"upstream: a recording has {shortest} samples at 16 kHz, "
                f"expected at least {self.receptive_field} (one frame)"
            )
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
        self._inputs = []
        try:
            last = self.model(padded, attention_mask=mask).last_hidden_state
            states = torch.stack([*self._inputs, last])
        finally:
            self._inputs = []
        return states.mul_(valid[None, :, :, None]) if ragged else states, lengths


def load(config: Config) -> TransformersUpstream:
    """Load an encoder on the CPU in fp32.

    Raises:
        StudyError: the model cannot be found, is of another family, or lacks weights.
    """
    from transformers import AutoConfig, AutoModel

    source = {"revision": config.revision} if config.revision else {}
    try:
        architecture = AutoConfig.from_pretrained(config.model, **source)
    except (OSError, ValueError) as error:
        raise StudyError(
            f"upstream: model {config.model!r} is neither a local Hugging Face folder nor on the "
            f"hub ({str(error).splitlines()[0]})"
        ) from error
    if architecture.model_type not in FAMILIES:
        raise StudyError(
            f"upstream: model {config.model!r} is of the family {architecture.model_type!r}; "
            f"{suggest(architecture.model_type, FAMILIES)}"
        )
    if getattr(architecture, "add_adapter", False):
        architecture.add_adapter = False  # an adapter behind the encoder is no hidden layer of it
    architecture.layerdrop = 0.0
    if config.untrained:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            model = AutoModel.from_config(architecture)
    else:
        model = _trained(config, architecture, source)
    normalize = config.normalize
    if normalize is None:
        normalize = _normalizes(config, architecture)
    return TransformersUpstream(model.float(), normalize).eval()


def _trained(config: Config, architecture: Any, source: dict[str, str]) -> nn.Module:
    from transformers import AutoModel

    try:
        model, report = AutoModel.from_pretrained(
            config.model,
            config=architecture,
            dtype=torch.float32,
            weights_only=True,
            output_loading_info=True,
            **source,
        )
    except OSError as error:
        raise StudyError(
            f"upstream: model {config.model!r} has no readable weights "
            f"({str(error).splitlines()[0]})"
        ) from error
    # The mask embedding is for pre-training; checkpoints often leave it out.
    missing = sorted(key for key in report["missing_keys"] if "masked_spec_embed" not in key)
    if missing:
        raise StudyError(
            f"upstream: the weights of model {config.model!r} lack {missing[0]!r} "
            f"({len(missing)} missing in all)"
        )
    return model


def _normalizes(config: Config, architecture: Any) -> bool:
    from transformers import FeatureExtractionMixin

    local = Path(config.model)
    if local.is_dir() and not (local / "preprocessor_config.json").is_file():
        # fairseq's rule: models whose every convolution has a LayerNorm take normalised waves.
        return getattr(architecture, "feat_extract_norm", "layer") == "layer"
    source = {"revision": config.revision} if config.revision else {}
    settings, _ = FeatureExtractionMixin.get_feature_extractor_dict(config.model, **source)
    return bool(settings.get("do_normalize", True))
