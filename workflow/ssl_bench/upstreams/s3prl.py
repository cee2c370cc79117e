"""Any upstream of s3prl, by its name or from a local checkpoint.

States and their number of frames are those of s3prl's own forward; what ``s3prl.nn.S3PRLUpstream``
repeats to reach ceil(n / stride) frames, ``lengths.py`` does where a recipe asks. For a stream of
half precision on a GPU HuBERT, wav2vec 2.0 and WavLM are encoded by ``_packed.py``. s3prl is
imported here only, and only when one of its upstreams is loaded.
"""

import sys
from collections import defaultdict
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ssl_bench.errors import StudyError, suggest
from ssl_bench.upstreams._fairseq import as_transformers
from ssl_bench.upstreams._hugging_face import HuggingFaceConfig, weight_files
from ssl_bench.upstreams._pickles import reading
from ssl_bench.upstreams.base import Parts, Upstream, UpstreamConfig
from ssl_bench.upstreams.transformers import TransformersUpstream, dropouts

NEEDS_PATH = ("_local", "_custom", "_url", "_gdriveid")
SHORTEST = 800
"""Samples (50 ms): s3prl pads anything shorter."""

RULES: tuple[Callable[[int, int], int], ...] = (
    lambda n, stride: (n - 400) // stride + 1,
    lambda n, stride: -(-n // stride),
    lambda n, stride: n // stride,
    lambda n, stride: n // stride + 1,
)
"""How families count frames: whole 25 ms windows, or padded in one of three ways."""

PROBES = (800, 4000, 5279, 5280, 5360, 5361, 9999, 16_000)

ALIKE = 0.01
"""Largest error, beside a state's length, of what may take the place of s3prl's own forward."""


class Config(UpstreamConfig):
    """Keys of an upstream of kind ``s3prl``."""

    name: str
    """Entry of ``s3prl.hub``, such as ``hubert_base``, ``wavlm_large`` or ``hubert_local``."""
    path: str | None = None
    """Checkpoint, for names that end in ``_local`` or ``_custom`` (there also a hub id)."""
    trust_checkpoint: bool = False
    """Unpickle whatever the checkpoint holds, which can run any code; see docs/upstreams.md."""

    def inputs(self) -> list[Path]:
        """See :meth:`UpstreamConfig.inputs`."""
        return [Path(self.path)] if self.path else []


class S3PRLUpstream(Upstream):
    """An s3prl expert. Only waveforms of equal length go through it together.

    Its experts pad within the batch, and some let padding into the statistics of a GroupNorm;
    without padding there is nothing to let in.

    Args:
        expert: what an entry of ``s3prl.hub`` returns.
        name: of the entry, for errors.
    """

    def __init__(self, expert: nn.Module, name: str) -> None:
        super().__init__()
        self.expert = expert.requires_grad_(False).eval()
        self.name = name
        rate: Any = expert.get_downsample_rates("hidden_states")  # type: ignore[operator]
        rates = {rate} if isinstance(rate, int) else set(rate)
        if len(rates) != 1:
            raise StudyError(
                f"upstream: s3prl's {name!r} has layers of different strides ({sorted(rates)}), "
                "expected one stride"
            )
        self.stride = int(rates.pop())
        self._twin: list[TransformersUpstream] | None = None  # a list: not a part of this module
        self._counted: dict[int, int] = {}
        fits = [
            rule for rule in RULES if all(rule(n, self.stride) == self._count(n) for n in PROBES)
        ]
        self._rule = fits[0] if fits else None

    def frames(self, samples: int) -> int:
        """See :meth:`Upstream.frames`; counted once for each length where no known rule fits."""
        if self._rule is not None:
            return self._rule(samples, self.stride)
        return self._count(samples)

    def _count(self, samples: int) -> int:
        if samples not in self._counted:
            device = next((p.device for p in self.parameters()), torch.device("cpu"))
            noise = torch.randn(samples, generator=torch.Generator().manual_seed(0)) * 0.01
            self._counted[samples] = self([noise.to(device)])[0].shape[2]
        return self._counted[samples]

    def encode(self, waveforms: list[Tensor]) -> tuple[Tensor, Tensor]:
        """See :meth:`Upstream.encode`.

        Raises:
            StudyError: a waveform is shorter than 50 ms, or layers differ in width.
        """
        groups: dict[int, list[int]] = defaultdict(list)
        for index, wave in enumerate(waveforms):
            groups[len(wave)].append(index)
        parts: dict[int, Tensor] = {}
        for members in groups.values():
            states = self.together([waveforms[i] for i in members])
            parts |= {index: states[:, place] for place, index in enumerate(members)}
        encoded = [parts[i] for i in range(len(waveforms))]
        lengths = torch.tensor([x.shape[1] for x in encoded], device=waveforms[0].device)
        layers, _, width = encoded[0].shape
        padded = encoded[0].new_zeros(layers, len(encoded), int(lengths.max()), width)
        for index, states in enumerate(encoded):
            padded[:, index, : states.shape[1]] = states
        return padded, lengths

    def packed(self, waveforms: list[Tensor], normalize: bool, dtype: torch.dtype) -> Tensor:
        """See :meth:`Upstream.packed`; utterances of any lengths together where that is known.

        The weights are copied to ``dtype`` at the first call: later changes are not seen.
        """
        if waveforms[0].is_cuda and dtype is not torch.float32:
            _demand_shortest(waveforms)
            for twin in self.twins():
                return twin.packed(waveforms, normalize, dtype)
        return super().packed(waveforms, normalize, dtype)

    def twins(self) -> list[TransformersUpstream]:
        """Return the same encoder as a module of transformers, or nothing.

        It shares the weights as they are at the first call, and is there only if it gives the
        expert's states for one second of noise.
        """
        if self._twin is None:
            model: Any = getattr(self.expert, "model", None)
            found = as_transformers(model) if isinstance(model, nn.Module) else None
            self._twin = []
            if found is not None:
                twin = TransformersUpstream(found, _normalizes(self.expert)).eval()
                if self._is_like(twin):
                    self._twin = [twin]
        return self._twin

    def _is_like(self, other: Upstream) -> bool:
        device = next(self.parameters()).device
        noise = torch.randn(16_000, generator=torch.Generator().manual_seed(0)) * 0.01
        with torch.autocast(device.type, enabled=False):
            own, theirs = self([noise.to(device)])[0], other([noise.to(device)])[0]
        if own.shape != theirs.shape:
            return False
        return bool(((own - theirs).norm(dim=-1) <= ALIKE * own.norm(dim=-1)).all())

    def together(self, waveforms: list[Tensor]) -> Tensor:
        """Encode waveforms in one batch, padded as s3prl does → (L, B, T, D), T of the longest.

        Raises:
            StudyError: as :meth:`encode`.
        """
        _demand_shortest(waveforms)
        layers = self.expert(waveforms)["hidden_states"]
        widths = {x.shape[-1] for x in layers}
        if len(widths) != 1:
            raise StudyError(
                f"upstream: s3prl's {self.name!r} has layers of different widths "
                f"({sorted(widths)}), expected one width"
            )
        shortest = min(x.shape[1] for x in layers)
        return torch.stack([x[:, :shortest] for x in layers])


def load(config: Config) -> S3PRLUpstream:
    """Load an s3prl upstream on the CPU in fp32, from its cache or the net.

    Raises:
        StudyError: s3prl is not installed, an unknown name, a path missing or not expected, or a
            checkpoint that cannot be read, does not fit its model, or would have to be unpickled.
    """
    upstreams = hub()
    known = upstreams.options()
    if config.name not in known:
        raise StudyError(f"upstream: s3prl has no {config.name!r}; {suggest(config.name, known)}")
    wants = config.name.endswith(NEEDS_PATH)
    if wants and config.path is None:
        raise StudyError(f"upstream: s3prl's {config.name!r} needs path (a checkpoint)")
    if not wants and config.path is not None:
        raise StudyError(
            f"upstream: s3prl's {config.name!r} brings its own checkpoint and takes no path; "
            "names ending in _local or _custom take one"
        )
    if config.name.endswith("_local") and not Path(config.path or "").exists():
        raise StudyError(
            f"upstream: path {config.path!r} of s3prl's {config.name!r} is not there; expected a "
            "checkpoint"
        )
    keys = {"ckpt": config.path} if wants else {}
    where = f"s3prl's {config.name!r}" + (f" ({config.path})" if config.path else "")
    with reading(where, trusted=config.trust_checkpoint) as files:
        expert = getattr(upstreams, config.name)(**keys)
    upstream = S3PRLUpstream(expert.float(), config.name)
    if config.path is not None and not files:  # s3prl's hf_…_custom, which transformers loads
        files = list(weight_files(HuggingFaceConfig(kind=config.kind, model=config.path)))
    upstream.files = tuple(files)
    return upstream


def _demand_shortest(waveforms: list[Tensor]) -> None:
    shortest = min(len(wave) for wave in waveforms)
    if shortest < SHORTEST:
        raise StudyError(
            f"upstream: a recording has {shortest} samples at 16 kHz, "
            f"expected at least {SHORTEST} (s3prl's shortest)"
        )


def _normalizes(expert: Any) -> bool:
    """Whether an expert gives each waveform zero mean and unit variance: each family's own key."""
    for settings in ("task_cfg", "cfg"):
        if hasattr(expert, settings):
            return bool(getattr(getattr(expert, settings), "normalize", False))
    return bool(getattr(expert, "wav_normalize", False))


def parts(upstream: S3PRLUpstream) -> Parts:
    """Return the blocks and convolutions of HuBERT, wav2vec 2.0, WavLM, data2vec and their kin.

    Raises:
        StudyError: another architecture, whose parts are not known.
    """
    model: Any = getattr(upstream.expert, "model", None)
    try:
        found = Parts(
            tuple(model.encoder.layers), (model.feature_extractor,), dropouts=dropouts(model)
        )
    except (AttributeError, TypeError):
        raise StudyError(
            f"upstream: s3prl's {upstream.name!r} cannot be fine-tuned: expected an encoder built "
            "like HuBERT, wav2vec 2.0, WavLM or data2vec"
        ) from None
    if hasattr(model, "feature_grad_mult"):
        model.feature_grad_mult = 1.0  # 0 keeps convolutions fixed, which is not decided here
    return found


def hub() -> ModuleType:
    """Import ``s3prl.hub``, which wants two names that torchaudio 2.9 took away.

    Neither is called for features: one chose a file reader, the other served a data loader.
    """
    try:
        import torchaudio

        if not hasattr(torchaudio, "set_audio_backend"):
            torchaudio.set_audio_backend = lambda backend: None
        try:
            import_module("torchaudio.sox_effects")
        except ModuleNotFoundError:
            gone = ModuleType("torchaudio.sox_effects")
            gone.apply_effects_tensor = gone.apply_effects_file = _no_sox  # type: ignore[attr-defined]
            sys.modules["torchaudio.sox_effects"] = torchaudio.sox_effects = gone
        return import_module("s3prl.hub")
    except ModuleNotFoundError as error:
        raise StudyError(
            f"upstream: kind s3prl needs the package {error.name!r}, which is not installed"
        ) from error


def _no_sox(*_: object, **__: object) -> None:
    raise StudyError(
        "upstream: this s3prl upstream needs torchaudio's sox effects (torchaudio < 2.9)"
    )
