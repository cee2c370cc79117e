import numpy as np
import pytest

from ssl_bench.errors import StudyError
from ssl_bench.speech import text
from ssl_bench.speech.espeak import Voice, synthesizer


def test_sizes_of_the_lists() -> None:
    assert len(text.keywords()) == len(set(text.keywords())) == 30
    assert len(text.languages()) == 16
    for language in text.languages():
        assert len(text.vocabulary(language)) >= (600 if language == "en-us" else 120), language


@pytest.mark.parametrize("language", text.languages())
def test_every_language_speaks_every_word(language: str) -> None:
    words = text.vocabulary(language)
    for first in range(0, len(words), 60):
        part = words[first : first + 60]
        speech = synthesizer().speak(" ".join(part), Voice(language), rate=300)
        assert len(speech.phones) > 1.2 * len(part)
        assert len(speech.samples) > 0.05 * 16_000 * len(part)


def test_languages_sound_different() -> None:
    phones = {
        language: synthesizer().speak(" ".join(text.vocabulary(language)[:40]), Voice(language))[1]
        for language in text.languages()
    }
    assert len(set(phones.values())) == 16


@pytest.mark.parametrize("words", [(1, 1), (3, 6), (2, 10), (25, 25)])
@pytest.mark.parametrize("language", ["en-us", "sv"])
def test_sentence_has_as_many_words_as_asked(words: tuple[int, int], language: str) -> None:
    rng = np.random.default_rng(0)
    counts = {len(text.sentence(rng, language, words).split()) for _ in range(300)}
    assert counts == set(range(words[0], words[1] + 1))


def test_sentences_follow_from_the_seed() -> None:
    def drawn(seed: int) -> list[str]:
        rng = np.random.default_rng(seed)
        return [text.sentence(rng) for _ in range(20)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert len(set(drawn(1))) > 15


@pytest.mark.parametrize("language", ["en-us", "fi"])
def test_vocabulary_limits_the_words(language: str) -> None:
    rng = np.random.default_rng(0)
    small = text.vocabulary(language, 60)
    assert len(small) == len(set(small)) == 60
    assert set(small) < set(text.vocabulary(language))
    plain = {w.strip('"') for ps in text._patterns().values() for p in ps for w in p if '"' in w}
    used = {word for _ in range(400) for word in text.sentence(rng, language, size=60).split()}
    assert used <= set(small) | plain | {"and"}
    assert len(used) > 45


def test_patterns_name_known_tags_only() -> None:
    tags = {tag for patterns in text._patterns().values() for p in patterns for tag in p}
    assert {tag for tag in tags if '"' not in tag} == set(text._tagged(None))


def test_label_is_upper_case_without_punctuation() -> None:
    assert text.label("go on, it's  late!") == "GO ON IT S LATE"
    assert text.label("istanbul ılık", "tr") == "İSTANBUL ILIK"


def test_unknown_language_suggests_the_nearest() -> None:
    with pytest.raises(StudyError, match="no words for language 'en_us'; did you mean 'en-us'"):
        text.sentence(np.random.default_rng(0), "en_us")


@pytest.mark.parametrize("size", [3, 100_000])
def test_impossible_vocabulary_says_the_limits(size: int) -> None:
    with pytest.raises(StudyError, match=rf"vocabulary: found {size}, expected \d+ to \d+"):
        text.vocabulary("en-us", size)
