"""One utterance of a generated corpus: what is said, by whom and how it is recorded.

Everything about utterance number i of a split follows from the recipe, the split and i alone, so
a corpus is the same however many processes make it.
"""

import ctypes
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from ssl_bench.configuration import Strict
from ssl_bench.errors import StudyError, suggest
from ssl_bench.speech import augment, prosody, text
from ssl_bench.speech.espeak import RATE, synthesizer
from ssl_bench.speech.voice import Voice

SPLITS = ("train", "dev", "test")
_SPEAKER, _UTTERANCE, _BABBLE, _NOISE = range(4)  # second part of a seed
_BABBLE_CLIPS = 24
_SLOPES = (-6, -5, -4, -3, -2, -1, 0, 1)  # dB per octave
_BANK_SECONDS = 16
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_FLOOR = 45.0  # dB, SNR of the noise floor of clean recordings
_BABBLE_SNR = 20 * np.log10(20)  # dB, babble over the noise in its pauses

_PAIR = Field(min_length=2, max_length=2)
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class Recipe(Strict):
    """The keys of a generated corpus; what they mean is in ``config/README.md``."""

    recipe: Literal["sentences", "keywords", "speakers", "prosody", "languages"]
    train: Count = 1000
    dev: Count = 200
    test: Count = 400
    train_minutes: Annotated[float, Field(gt=0)] | None = None  # instead of the count `train`
    languages: Annotated[list[str], Field(min_length=1)] = [text.ENGLISH]
    words: Annotated[list[int], _PAIR] = [3, 6]
    vocabulary: Count | None = None
    speakers: Count = 100  # of train, and of all splits unless they are disjoint
    disjoint_speakers: bool = False
    dev_speakers: Count = 20  # only where speakers are disjoint
    test_speakers: Count = 20
    snr: Annotated[list[float], _PAIR] | None = None  # dB; None: only a noise floor
    babble: Share = 0.3  # share of the noises that are other people's speech
    reverberation: Share = 0.0  # share of utterances
    equalisation: Share = 0.0
    strength: Annotated[float, Field(gt=0)] = 1.0  # distance between the prosody classes
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, given: Any) -> Any:
        if isinstance(given, dict):
            for key in given:
                if key not in cls.model_fields:
                    raise StudyError(
                        f"synthetic corpus: unknown key {key!r}; {suggest(key, cls.model_fields)}"
                    )
        return given

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        for language in self.languages:
            if language not in text.languages():
                raise StudyError(
                    f"synthetic corpus: languages: unknown {language!r}; "
                    f"{suggest(language, text.languages())}"
                )
            text.vocabulary(language, self.vocabulary)
        if len(set(self.languages)) < len(self.languages):
            raise StudyError(f"synthetic corpus: languages: repeated in {self.languages}")
        if not 1 <= self.words[0] <= self.words[1]:
            raise StudyError(
                f"synthetic corpus: words: found {self.words}, "
                "expected [least, greatest], least >= 1"
            )
        if self.snr is not None and self.snr[0] > self.snr[1]:
            raise StudyError(
                f"synthetic corpus: snr: found {self.snr}, expected [least, greatest] in dB"
            )
        if self.recipe == "keywords" and self.languages != [text.ENGLISH]:
            raise StudyError(
                f"synthetic corpus: languages: keywords are in {text.ENGLISH!r} only, "
                f"found {self.languages}"
            )
        return self

    def speaker_numbers(self, split: str) -> range:
        """Return the numbers of the speakers of a split."""
        if not self.disjoint_speakers:
            return range(self.speakers)
        sizes = {"train": self.speakers, "dev": self.dev_speakers, "test": self.test_speakers}
        first = sum(sizes[other] for other in SPLITS[: SPLITS.index(split)])
        return range(first, first + sizes[split])


def keep_memory() -> None:
    """Let this process keep the memory that it frees, where malloc is glibc's.

    A long sentence's arrays are large enough for malloc to hand them back to the system one by
    one; to have them mapped and cleared again for the next takes a sixth of the time.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_MMAP_THRESHOLD, 32 << 20)
        library.mallopt(_TRIM_THRESHOLD, 64 << 20)


class Utterance(NamedTuple):
    """One recording and its labels."""

    id: str
    samples: np.ndarray  # int16 (n,), 16 kHz
    text: str
    speaker: str
    language: str
    custom: dict[str, str]


def utterance(recipe: Recipe, split: str, index: int) -> Utterance:
    """Make utterance number ``index`` of a split."""
    rng = _generator(recipe.seed, _UTTERANCE, SPLITS.index(split), index)
    numbers = recipe.speaker_numbers(split)
    place = index % len(numbers) if recipe.recipe == "speakers" else rng.integers(len(numbers))
    speaker = numbers[int(place)]
    languages = recipe.languages
    if recipe.recipe == "languages":
        language = languages[index % len(languages)]
    else:
        language = languages[int(rng.integers(len(languages)))]
    voice = speaker_voice(recipe.seed, speaker, language)
    custom = {}
    if recipe.recipe == "prosody":
        custom["prosody"] = tuple(prosody.STYLES)[index % len(prosody.STYLES)]
        voice, manner = prosody.expressive(rng, voice, custom["prosody"], recipe.strength)
    else:
        manner = prosody.manner(rng)
    if recipe.recipe == "keywords":
        spoken = custom["keyword"] = text.keywords()[index % len(text.keywords())]
    else:
        words = (recipe.words[0], recipe.words[1])
        spoken = text.sentence(rng, language, words, recipe.vocabulary)
    speech = synthesizer().speak(
        spoken, voice, rate=manner.rate, pitch=manner.pitch, range=manner.range
    )
    return Utterance(
        id=f"{split}-{index:06d}",
        samples=recorded(rng, speech.samples, recipe),
        text=text.label(spoken, language),
        speaker=f"speaker-{speaker:05d}",
        language=language,
        custom={"phones": " ".join(speech.phones), **custom},
    )


def recorded(rng: np.random.Generator, samples: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Record speech (n,) as the recipe says: int16, a little longer for the pauses at its ends."""
    before, after = int(rng.uniform(0.05, 0.25) * RATE), int(rng.uniform(0.05, 0.25) * RATE)
    impulses = []
    if rng.random() < recipe.reverberation:
        seconds, direct = rng.uniform(0.15, 0.6), rng.uniform(-3, 9)
        impulses.append(augment.room(rng, seconds, direct))
    if rng.random() < recipe.equalisation:
        impulses.append(augment.equaliser(rng))
    signal = augment.filtered(samples, *impulses, before=before, after=after)
    noise = augment.from_bank(rng, noises(recipe.seed), len(signal))
    snr = _FLOOR if recipe.snr is None else rng.uniform(recipe.snr[0], recipe.snr[1])
    if recipe.snr is not None and rng.random() < recipe.babble:
        # Babble has pauses: without the noise some stretches would be silent.
        clips = babble_clips(recipe.seed)
        talkers = int(rng.integers(2, 6))
        talk = augment.babble(rng, clips, len(signal), talkers)
        noise = augment.add_noise(talk, noise, _BABBLE_SNR)
    mixed = augment.add_noise(signal, noise, snr)
    return augment.levelled(mixed, decibels=rng.uniform(-30, -18))


@lru_cache(maxsize=4096)
def speaker_voice(seed: int, speaker: int, language: str) -> Voice:
    """Return the voice of a speaker: the same throat whatever the language."""
    rng = np.random.default_rng([seed, _SPEAKER, speaker])
    return Voice.random(rng, language, name=f"speaker-{speaker:05d}")


@lru_cache(maxsize=1)
def babble_clips(seed: int) -> tuple[np.ndarray, ...]:
    """Return the speech that babble is mixed from: sentences of people who are in no corpus."""
    clips = []
    for number in range(_BABBLE_CLIPS):
        rng = np.random.default_rng([seed, _BABBLE, number])
        voice = Voice.random(rng)
        spoken = text.sentence(rng, words=(8, 12))
        clips.append(synthesizer().speak(spoken, voice).samples)
    return augment.equally_loud(clips)


@lru_cache(maxsize=1)
def noises(seed: int) -> np.ndarray:
    """Return the noises (slopes, samples) that each recording's noise is mixed from."""
    rng = np.random.default_rng([seed, _NOISE])
    return augment.noise_bank(rng, _SLOPES, _BANK_SECONDS * RATE)


def _generator(*seed: int) -> np.random.Generator:
    """Return numpy's generator of a seed of several numbers."""
    # The same seed as a list of Python's numbers, in half the time.
    words = np.array(seed, np.uint32) if max(seed) < 1 << 32 else seed
    return np.random.default_rng(words)
