"""Five ways of speaking, made from pitch, range, rate and the quality of the voice.

The classes overlap: each parameter is drawn round its class's mean with a spread of the size of
the distance between classes, on top of what differs among speakers.
"""

from dataclasses import dataclass, replace

import numpy as np

from ssl_bench.speech.voice import Voice


@dataclass(frozen=True)
class Manner:
    """How one utterance is spoken, in espeak's units (see :meth:`Synthesizer.speak`)."""

    rate: int
    pitch: int
    range: int


@dataclass(frozen=True)
class Style:
    """A class: shifts of the means, all relative to neutral speech."""

    rate: float = 0.0  # words per minute
    pitch: float = 0.0  # espeak's 0 to 99
    range: float = 0.0
    bright: float = 0.0  # amplitude of the tone control's upper points, 0 to 255
    rough: float = 0.0  # espeak's 0 to 7
    voicing: float = 0.0  # percent
    breath: float = 0.0  # percent
    consonants: float = 0.0  # percent


STYLES = {
    "neutral": Style(),
    "happy": Style(rate=14, pitch=12, range=22, bright=22),
    "sad": Style(rate=-24, pitch=-7, range=-20, bright=-28, breath=3),
    "angry": Style(rate=16, pitch=4, range=8, bright=30, rough=2.2, voicing=12, consonants=25),
    "breathy": Style(rate=-10, pitch=-3, range=-6, bright=-6, voicing=-34, breath=16),
}
_SPREAD = Style(
    rate=18, pitch=8, range=12, bright=16, rough=0.9, voicing=9, breath=3, consonants=10
)


def manner(rng: np.random.Generator) -> Manner:
    """Draw how a neutral utterance is spoken."""
    return _manner(rng, Style(), 1.0)


def expressive(
    rng: np.random.Generator, voice: Voice, style: str, strength: float = 1.0
) -> tuple[Voice, Manner]:
    """Draw how an utterance of a class is spoken: a changed voice, and its manner.

    Args:
        rng: the source of chance.
        voice: the speaker's own.
        style: one of :data:`STYLES`.
        strength: multiplies the distance between the classes.
    """
    shift = STYLES[style]

    def draw(field: str) -> float:
        spread = rng.normal(0, getattr(_SPREAD, field))
        return getattr(shift, field) * strength + float(spread)

    bright, rough, voicing, breath = (draw(f) for f in ("bright", "rough", "voicing", "breath"))
    consonants = draw("consonants")
    tone = list(voice.tone)
    for place, share in zip(range(1, len(tone), 2), (-0.3, 0.4, 1.0, 1.0), strict=False):
        tone[place] = _within(tone[place] + share * bright, 20, 255)
    own = voice.breath or (0,) * 8
    changed = replace(
        voice,
        tone=tuple(tone),
        roughness=_within(voice.roughness + rough, 0, 7),
        voicing=_within(voice.voicing + voicing, 20, 140),
        breath=tuple(_within(value + breath, 0, 60) for value in own) if breath > 1 else own,
        consonants=(
            _within(voice.consonants[0] + consonants, 30, 160),
            _within(voice.consonants[1] + consonants, 30, 160),
        ),
    )
    return changed, _manner(rng, shift, strength)


def _manner(rng: np.random.Generator, shift: Style, strength: float) -> Manner:
    return Manner(
        rate=_within(rng.normal(172 + shift.rate * strength, _SPREAD.rate), 100, 300),
        pitch=_within(rng.normal(48 + shift.pitch * strength, _SPREAD.pitch), 5, 95),
        range=_within(rng.normal(48 + shift.range * strength, _SPREAD.range), 3, 97),
    )


def _within(value: float, low: int, high: int) -> int:
    return int(min(max(value, low), high))
