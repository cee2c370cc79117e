"""A speaker's voice for espeak-ng, written as a voice variant."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

FORMANTS = 9  # espeak's peaks 0 to 8; 0 is the glottal one, 6 to 8 are fixed high peaks


@dataclass(frozen=True)
class Voice:
    """One speaker: a language and the parameters of an espeak-ng voice variant.

    The defaults are espeak's own neutral voice. Formant fields hold nine percentages, for the
    peaks 0 (glottal) to 8. Meaning of each parameter: espeak-ng, ``docs/voices.md``.
    """

    language: str = "en-us"
    name: str = "neutral"
    pitch: int = 82  # Hz, lowest
    range: int = 36  # Hz between the lowest and the highest pitch
    formant_frequency: tuple[int, ...] = (100,) * FORMANTS
    formant_strength: tuple[int, ...] = (100,) * FORMANTS
    formant_width: tuple[int, ...] = (100,) * FORMANTS
    flutter: int = 2
    roughness: int = 2  # 0 to 7
    voicing: int = 100  # percent
    consonants: tuple[int, int] = (90, 100)  # percent: unvoiced, voiced
    tone: tuple[int, ...] = (600, 170, 1200, 135, 2000, 110)  # pairs of Hz, amplitude (0 to 255)
    breath: tuple[int, ...] = ()  # up to 8 noise levels, percent, for the peaks 1 to 8
    breath_width: tuple[int, ...] = ()  # up to 8, Hz
    speed: int = 100  # percent of the rate that is asked

    def __post_init__(self) -> None:
        for name in ("formant_frequency", "formant_strength", "formant_width"):
            if len(getattr(self, name)) != FORMANTS:
                found = len(getattr(self, name))
                raise ValueError(f"Voice.{name}: expected {FORMANTS} percentages, found {found}")
        if len(self.tone) % 2 or len(self.tone) > 8:
            raise ValueError(f"Voice.tone: expected up to 4 pairs of Hz, amplitude: {self.tone}")

    @classmethod
    def random(cls, rng: np.random.Generator, language: str = "en-us", name: str = "") -> Self:
        """Draw a speaker; about half have a low, half a high voice, some are breathy or rough."""
        high = rng.random() < 0.5
        pitch = float(np.clip(rng.normal(168, 28) if high else rng.normal(92, 15), 60, 260))
        # The length of the vocal tract goes with the pitch only loosely, as among people.
        tract = (112 if high else 98) + rng.normal(0, 5)
        frequency = tract + rng.normal(0, 3.5, FORMANTS)
        strength = 100 + rng.normal(0, 18, FORMANTS)
        width = 100 + rng.normal(0, 15) + rng.normal(0, 12, FORMANTS)
        breathy = rng.random() < 0.3
        breath = rng.uniform(0, 12, 8) if breathy else np.zeros(0)
        return cls(
            language=language,
            name=name or f"voice-{int(rng.integers(1 << 48)):012x}",
            pitch=int(pitch),
            range=int(pitch * rng.uniform(0.2, 0.8)),
            formant_frequency=_percent(frequency, 75, 145),
            formant_strength=_percent(strength, 45, 160),
            formant_width=_percent(width, 55, 170),
            flutter=int(rng.integers(0, 12)),
            roughness=int(rng.integers(0, 5)),
            voicing=int(rng.uniform(60, 115)),
            consonants=(int(rng.uniform(60, 120)), int(rng.uniform(70, 120))),
            tone=(
                *(int(rng.uniform(400, 800)), int(rng.uniform(120, 220))),
                *(int(rng.uniform(1000, 1600)), int(rng.uniform(90, 190))),
                *(int(rng.uniform(1800, 3500)), int(rng.uniform(60, 170))),
            ),
            breath=tuple(int(level) for level in breath),
            breath_width=(),
            speed=int(rng.uniform(88, 114)),
        )

    @cached_property
    def variant(self) -> str:
        """The text of the voice variant file."""
        peaks = zip(self.formant_frequency, self.formant_strength, self.formant_width, strict=True)
        lines = [
            "language variant",
            "name own",
            f"pitch {self.pitch} {self.pitch + self.range}",
            *(f"formant {peak} {f} {s} {w}" for peak, (f, s, w) in enumerate(peaks)),
            f"flutter {self.flutter}",
            f"roughness {self.roughness}",
            f"voicing {self.voicing}",
            f"consonants {self.consonants[0]} {self.consonants[1]}",
            f"speed {self.speed}",
        ]
        for key, field in (("tone", "tone"), ("breath", "breath"), ("breathw", "breath_width")):
            if values := getattr(self, field):
                lines.append(f"{key} {' '.join(map(str, values))}")
        return "\n".join(lines) + "\n"


def _percent(values: np.ndarray, low: int, high: int) -> tuple[int, ...]:
    return tuple(int(value) for value in np.clip(values, low, high))
