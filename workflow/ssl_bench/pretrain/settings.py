"""What ``config/pretrain.yaml`` says, checked."""

from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from ssl_bench.errors import StudyError, suggest

SAMPLE_RATE = 16_000
KERNELS = (10, 3, 3, 3, 3, 2, 2)
STRIDES = (5, 2, 2, 2, 2, 2, 2)
STRIDE, RECEPTIVE_FIELD = 320, 400


def frames(samples: int) -> int:
    """Return the encoder's frames for a number of samples."""
    return (samples - RECEPTIVE_FIELD) // STRIDE + 1


@dataclass(frozen=True)
class Speech:
    """The generated speech."""

    hours: float
    seconds: float
    """Length of a clip; a clip has one speaker and one language."""
    languages: dict[str, float]
    """Share of the clips by espeak language; shares are relative."""
    held_out: int
    """Clips kept out of training, for the losses that the model card states."""

    @property
    def samples(self) -> int:
        """Samples of a clip."""
        return round(self.seconds * SAMPLE_RATE)

    @property
    def clips(self) -> int:
        """Number of clips."""
        return max(round(self.hours * 3600 / self.seconds), self.held_out + 1)


@dataclass(frozen=True)
class Augment:
    """How often and how strongly the input (never the target) is corrupted."""

    noise: float
    """Share of clips with audible noise; the others get a noise floor at ``floor`` dB."""
    babble: float
    """Share of the noisy clips whose noise is other clips of the batch."""
    snr: tuple[float, float]
    floor: tuple[float, float]
    reverberation: float
    rt60: tuple[float, float]
    """Reverberation time in seconds."""
    equalisation: float
    gain: float
    """Standard deviation of the equaliser's curve, in dB."""


@dataclass(frozen=True)
class Targets:
    """The clusters that are predicted."""

    mfcc_clusters: int
    layer: int
    """State of the first iteration's model whose clusters the second iteration predicts."""
    clusters: int
    pitch_bins: int
    """Log-spaced F0 classes between 60 and 400 Hz, beside one for unvoiced frames."""
    sample: int
    """Frames on which k-means is fitted."""
    rounds: int
    """Lloyd rounds of k-means."""


@dataclass(frozen=True)
class Size:
    """One architecture; ``name`` is its number of states."""

    layers: int
    hidden: int
    heads: int
    feed_forward: int
    channels: tuple[int, ...]
    side_layer: int
    """State from which the second iteration also predicts MFCC and pitch classes."""
    position_kernel: int = 128
    position_groups: int = 16


@dataclass(frozen=True)
class Training:
    """One iteration of masked prediction."""

    steps: int
    batch: int
    """Clips a step."""
    learning_rate: float


@dataclass(frozen=True)
class Loss:
    """Masked prediction."""

    mask_start: float
    mask_span: int
    unmasked: float
    """Weight of the mean loss over unmasked frames, beside 1 for masked ones."""
    side: float
    """Weight of the side layer's losses in the second iteration."""
    temperature: float = 0.1
    embedding: int = 256
    """Width in which frames and cluster embeddings are compared by cosine."""


@dataclass(frozen=True)
class Settings:
    """All of ``config/pretrain.yaml``."""

    seed: int
    speech: Speech
    augment: Augment
    targets: Targets
    loss: Loss
    sizes: dict[str, Size]
    first: Training
    second: Training
    clip_norm: float = 1.0
    warm_up: float = 0.04
    weight_decay: float = 0.01
    first_size: str = "13"
    """The architecture of the first iteration; all second iterations share its clusters."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for the record."""
        return asdict(self)


def read(path: Path) -> Settings:
    """Read and check a pre-training configuration.

    Raises:
        StudyError: unreadable, a key is unknown, missing or of the wrong type.
    """
    try:
        data = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        first = str(error).splitlines()[0]
        raise StudyError(f"{path}: cannot be read as YAML ({first})") from error
    settings = _build(Settings, data, str(path))
    if settings.first_size not in settings.sizes:
        hint = suggest(settings.first_size, settings.sizes)
        raise StudyError(f"{path}: unknown first_size {settings.first_size!r}; {hint}")
    for name, size in settings.sizes.items():
        where = f"{path}: sizes.{name}"
        if size.hidden % size.heads or size.hidden % size.position_groups:
            raise StudyError(
                f"{where}: hidden {size.hidden} must be divisible by heads {size.heads} "
                f"and position_groups {size.position_groups}"
            )
        if len(size.channels) != len(KERNELS):
            raise StudyError(
                f"{where}: channels has {len(size.channels)} entries, expected {len(KERNELS)}"
            )
        if not 0 < size.side_layer <= size.layers:
            raise StudyError(f"{where}: side_layer {size.side_layer} not in 1…{size.layers}")
    if not 0 < settings.targets.layer <= settings.sizes[settings.first_size].layers:
        raise StudyError(
            f"{path}: targets.layer {settings.targets.layer} is not a state of the first model"
        )
    return settings


def _build(kind: Any, data: Any, where: str) -> Any:
    """Make a dataclass from plain data, strictly."""
    if not isinstance(data, dict):
        raise StudyError(f"{where}: expected a mapping, found {type(data).__name__}")
    known = {f.name for f in fields(kind)}
    for key in data:
        if key not in known:
            raise StudyError(f"{where}: unknown key {key!r}; {suggest(str(key), known)}")
    hints = get_type_hints(kind)
    values = {key: _value(hints[key], value, f"{where}: {key}") for key, value in data.items()}
    try:
        return kind(**values)
    except TypeError as error:
        lacking = str(error).rsplit("argument", 1)[-1].lstrip("s: ")
        raise StudyError(f"{where}: missing {lacking}") from error


def _value(hint: Any, value: Any, where: str) -> Any:
    if is_dataclass(hint):
        return _build(hint, value, where)
    name = getattr(hint, "__name__", "")
    if name == "dict":
        if not isinstance(value, dict) or not value:
            raise StudyError(f"{where}: expected a mapping, found {value!r}")
        inner = hint.__args__[1]
        return {str(k): _value(inner, v, f"{where}.{k}") for k, v in value.items()}
    if name == "tuple":
        inner = hint.__args__[0]
        if not isinstance(value, list) or (
            ... not in hint.__args__ and len(value) != len(hint.__args__)
        ):
            raise StudyError(f"{where}: expected a list, found {value!r}")
        return tuple(_value(inner, v, where) for v in value)
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise StudyError(f"{where}: expected {hint.__name__}, found {value!r}")
    return value
