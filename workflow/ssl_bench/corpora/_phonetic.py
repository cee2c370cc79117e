"""Phones of Mandarin and Japanese text, as ML-SUPERB's recipe gets them.

Its monolingual track scores ``cmn`` and ``jpn`` by the phones of ESPnet's ``tokenize_text``:

* ``cmn``: ESPnet's ``pypinyin_g2p_phone``: each character's pinyin with a tone digit, split into
  initial and final. What is not a Chinese character stays as it is where it ends in something
  else than a letter, and is dropped where it ends in a letter. Finals that pypinyin writes with
  ``v`` (ü) are dropped: a quirk of the original, kept.
* ``jpn``: ESPnet's ``pyopenjtalk_g2p``: Open JTalk's phones.

Both packages are optional. pyopenjtalk fetches its dictionary when it is first used;
pyopenjtalk-plus, which is imported by the same name, brings it.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from ssl_bench.errors import StudyError

PACKAGES = {"cmn": "pypinyin", "jpn": "pyopenjtalk"}


def phonetic(language: str) -> Callable[[str], list[str]]:
    """Return the function from text to phones.

    Raises:
        StudyError: the package that it needs is not installed, or cannot get its dictionary.
    """
    package = PACKAGES[language]
    try:
        module = import_module(package)
    except ImportError:
        raise StudyError(
            f"ml_superb: {language} is scored by phones, which need the package {package} "
            f"(python -m pip install {package}); phones: false does without"
        ) from None
    return {"cmn": _mandarin, "jpn": _japanese}[language](module)


def _mandarin(pypinyin: Any) -> Callable[[str], list[str]]:
    style = import_module("pypinyin.style._utils")

    def final(syllable: str) -> str:
        if syllable[-1].isdigit():
            return style.get_finals(syllable[:-1], strict=True) + syllable[-1]
        if syllable[-1].isalnum():
            return style.get_finals(syllable, strict=True)
        return syllable

    def phones(text: str) -> list[str]:
        found = []
        for syllable, *_ in pypinyin.pinyin(text, style=pypinyin.Style.TONE3):
            found += [style.get_initials(syllable, strict=True), final(syllable)]
        # A tone alone is no phone. Spaces within a run of other characters separate phones.
        return [part for phone in found if not phone.isdigit() for part in phone.split()]

    return phones


def _japanese(pyopenjtalk: Any) -> Callable[[str], list[str]]:
    try:
        pyopenjtalk.g2p("あ", kana=False)  # fetches its dictionary when it is first used
    except OSError as error:
        raise StudyError(f"ml_superb: pyopenjtalk cannot get its dictionary: {error}") from None
    return lambda text: pyopenjtalk.g2p(text, kana=False).split()
