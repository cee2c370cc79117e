"""Words and sentences of our own to be spoken: English by patterns, other languages by words.

The lists are ``words/<language>.txt``, one file a language of espeak-ng: words separated by white
space, the commonest first. English is sorted by tags (``[noun]``), which ``words/patterns.txt``
strings together.
"""

import re
from functools import cache
from importlib.resources import files

import numpy as np

from ssl_bench.errors import StudyError, suggest

ENGLISH = "en-us"
_WORDS = files("ssl_bench.speech") / "words"
_PATTERNS = "patterns"

_KEYWORDS = (
    "yes no up down left right on off stop go open close start pause play next back louder softer "
    "help zero one two three four five six seven eight nine"
)


def keywords() -> tuple[str, ...]:
    """Return the 30 English command words."""
    return tuple(_KEYWORDS.split())


@cache
def languages() -> tuple[str, ...]:
    """Return the languages that have a word list, named as espeak-ng names them, sorted."""
    names = (path.name.removesuffix(".txt") for path in _WORDS.iterdir())
    return tuple(sorted(name for name in names if name != _PATTERNS))


@cache
def vocabulary(language: str, size: int | None = None) -> tuple[str, ...]:
    """Return the words of a language, all or the commonest ``size``.

    Raises:
        StudyError: there is no list for the language, or it has fewer words, or ``size`` is less
            than one word for each part of speech.
    """
    return tuple(word for word, _ in _chosen(language, size))


def sentence(
    rng: np.random.Generator,
    language: str = ENGLISH,
    words: tuple[int, int] = (3, 6),
    size: int | None = None,
) -> str:
    """Draw a sentence in lower case without punctuation.

    Args:
        rng: the source of chance.
        language: one of :func:`languages`.
        words: least and greatest number of words, both possible.
        size: of the vocabulary; all words if None.
    """
    count = int(rng.integers(words[0], words[1] + 1))
    if language != ENGLISH:
        known = vocabulary(language, size)
        return " ".join(known[index] for index in rng.integers(len(known), size=count))
    tagged = _tagged(size)
    clauses = []
    longest = max(_patterns())
    while count > longest:
        clauses.append(longest - 1)
        count -= longest  # a clause and the "and" after it
    clauses.append(count)
    return " and ".join(_clause(rng, tagged, length) for length in clauses if length)


def label(text: str, language: str = ENGLISH) -> str:
    """Return a text as it is written in transcriptions: upper case, no punctuation."""
    if language in ("tr", "az"):
        text = text.replace("i", "İ")
    return " ".join(re.sub(r"[^\w\s]", " ", text.upper()).split())


def _clause(rng: np.random.Generator, tagged: dict[str, list[str]], length: int) -> str:
    patterns = _patterns()[length]
    words = []
    for tag in patterns[int(rng.integers(len(patterns)))]:
        if tag.startswith('"'):
            words.append(tag.strip('"'))
        else:
            words.append(tagged[tag][int(rng.integers(len(tagged[tag])))])
    return " ".join(words)


@cache
def _patterns() -> dict[int, list[list[str]]]:
    found: dict[int, list[list[str]]] = {}
    for line in (_WORDS / f"{_PATTERNS}.txt").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            found.setdefault(len(line.split()), []).append(line.split())
    return found


@cache
def _tagged(size: int | None) -> dict[str, list[str]]:
    words: dict[str, list[str]] = {}
    for word, tag in _chosen(ENGLISH, size):
        words.setdefault(tag, []).append(word)
    return words


@cache
def _listed(language: str) -> tuple[tuple[str, str], ...]:
    """Return (word, tag) in the order of the file; a word keeps its first tag only."""
    if language not in languages():
        raise StudyError(f"no words for language {language!r}; {suggest(language, languages())}")
    entries: dict[str, str] = {}
    tag = ""
    for line in (_WORDS / f"{language}.txt").read_text("utf-8").splitlines():
        if line.startswith("["):
            tag = line.strip("[]")
        elif not line.startswith("#"):
            for word in line.split():
                entries.setdefault(word, tag)
    return tuple(entries.items())


@cache
def _chosen(language: str, size: int | None) -> tuple[tuple[str, str], ...]:
    entries = _listed(language)
    if size is None:
        return entries
    tags = [tag for _, tag in entries]
    totals = {tag: tags.count(tag) for tag in tags}
    if not len(totals) <= size <= len(entries):
        raise StudyError(
            f"vocabulary: found {size}, expected {len(totals)} to {len(entries)} "
            f"words for {language!r}"
        )
    # Every part of speech keeps its share: the i-th of n words has rank i / n.
    seen = dict.fromkeys(totals, 0)
    ranks = []
    for position, (_, tag) in enumerate(entries):
        ranks.append((seen[tag] / totals[tag], position))
        seen[tag] += 1
    return tuple(entries[position] for _, position in sorted(ranks)[:size])
