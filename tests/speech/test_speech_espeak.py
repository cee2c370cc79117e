import hashlib
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from ssl_bench.errors import StudyError
from ssl_bench.speech import text
from ssl_bench.speech.espeak import RATE, Synthesizer, Voice, synthesizer

SENTENCE = "many people live in a city near the sea"


def digest(speech) -> str:
    content = speech.samples.tobytes() + repr(speech[1:]).encode()
    return hashlib.sha256(content).hexdigest()


def rough_voice() -> Voice:
    # Flutter, breath and roughness are what espeak keeps state for.
    return Voice(name="rough", flutter=20, roughness=4, breath=(10, 10, 5, 5))


def spoken_in_child(_: int) -> str:
    return digest(synthesizer().speak(SENTENCE, rough_voice()))


def test_phones_of_a_word_are_those_of_its_dictionary() -> None:
    speech = synthesizer().speak("banana", Voice())
    assert speech.phones == ("b", "ɐ", "n", "æ", "n", "ə")


def test_phones_have_no_stress_tone_switch_or_blank() -> None:
    for language in text.languages():
        words = " ".join(text.vocabulary(language)[:60])
        for phone in synthesizer().speak(words, Voice(language)).phones:
            assert phone, language
            assert not set(phone) & set("ˈˌ()0123456789 "), (language, phone)


def test_switch_of_language_is_dropped_but_its_phones_stay() -> None:
    speech = synthesizer().speak("die software", Voice("de"))
    assert all("(" not in phone for phone in speech.phones)
    assert len(speech.phones) > 6


def test_samples_and_times() -> None:
    speech = synthesizer().speak(SENTENCE, Voice())
    assert speech.samples.dtype == np.float64
    assert speech.samples.ndim == 1
    assert 0.05 < np.abs(speech.samples).max() <= 1
    assert len(speech.times) == len(speech.phones)
    assert list(speech.times) == sorted(speech.times)
    assert 0 <= speech.times[0] < 0.1
    assert len(speech.samples) / RATE - 0.6 < speech.times[-1] < len(speech.samples) / RATE


def test_times_are_where_the_phones_are() -> None:
    # The hiss of "s" has its energy high, the vowel after it low.
    speech = synthesizer().speak("see", Voice())
    assert speech.phones == ("s", "iː")
    start, boundary = (int(time * RATE) for time in speech.times)

    def high_share(stretch: np.ndarray) -> float:
        energy = np.abs(np.fft.rfft(stretch)) ** 2
        return energy[len(energy) // 2 :].sum() / energy.sum()

    assert high_share(speech.samples[start:boundary]) > 0.5
    assert high_share(speech.samples[boundary + RATE // 50 :]) < 0.2


def test_output_does_not_depend_on_what_was_spoken_before() -> None:
    with Synthesizer() as machine:
        first = digest(machine.speak(SENTENCE, rough_voice()))
        for index in range(12):
            voice = Voice.random(np.random.default_rng(index), ("en-us", "cmn")[index % 2])
            machine.speak("one two three four five"[: 5 + index], voice, rate=120 + 10 * index)
            assert digest(machine.speak(SENTENCE, rough_voice())) == first, index


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_output_is_the_same_in_other_processes(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = digest(synthesizer().speak(SENTENCE, rough_voice()))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with ProcessPoolExecutor(2, mp_context=get_context(method)) as pool:
        assert list(pool.map(spoken_in_child, range(4))) == [here] * 4
    assert not list(tmp_path.glob("espeak-*"))


def test_rate_pitch_and_voice_change_the_speech() -> None:
    machine = synthesizer()
    plain = machine.speak(SENTENCE, Voice())
    assert len(machine.speak(SENTENCE, Voice(), rate=120).samples) > 1.2 * len(plain.samples)
    assert len(machine.speak(SENTENCE, Voice(speed=130)).samples) < 0.9 * len(plain.samples)
    changes = {
        "pitch": 150,
        "range": 90,
        "formant_frequency": (110,) * 9,
        "formant_strength": (60,) * 9,
        "formant_width": (150,) * 9,
        "flutter": 20,
        "roughness": 6,
        "voicing": 50,
        "consonants": (40, 60),
        "tone": (600, 100, 2000, 250),
        "breath": (40,) * 8,
    }
    for field, value in changes.items():
        changed = machine.speak(SENTENCE, Voice(**{field: value}))
        assert digest(changed) != digest(plain), field
        assert changed.phones == plain.phones, field


def test_voice_pitch_is_in_hertz() -> None:
    for low in (90, 180):
        samples = synthesizer().speak("aaaa", Voice(pitch=low, range=0, flutter=0)).samples
        middle = samples[len(samples) // 2 - 1024 : len(samples) // 2 + 1024]
        correlation = np.correlate(middle, middle, "full")[len(middle) - 1 :]
        lags = np.arange(RATE // 300, RATE // 60)
        found = RATE / lags[np.argmax(correlation[lags])]
        assert found == pytest.approx(low, rel=0.12)


def test_random_voices_are_many_and_follow_from_the_seed() -> None:
    voices = [Voice.random(np.random.default_rng(seed)) for seed in range(50)]
    assert len(set(voices)) == 50
    assert voices[3] == Voice.random(np.random.default_rng(3))
    assert max(v.pitch for v in voices) > 1.6 * min(v.pitch for v in voices)


def test_unknown_language_suggests_the_nearest() -> None:
    with pytest.raises(StudyError, match="unknown language 'en-uss'; did you mean 'en-us'"):
        synthesizer().speak("hello", Voice("en-uss"))


def test_nothing_to_say_is_an_error() -> None:
    with pytest.raises(StudyError, match="said nothing for '  '"):
        synthesizer().speak("  ", Voice())


@pytest.mark.parametrize(
    "wrong", [{"formant_width": (100, 100)}, {"tone": (600, 170, 1200)}], ids=str
)
def test_malformed_voice_is_an_error(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Voice(**wrong)


@pytest.mark.parametrize("ending", ["", "machine.close()", "raise SystemExit(3)"])
def test_data_folder_is_removed_at_exit(tmp_path: Path, ending: str) -> None:
    code = (
        "from ssl_bench.speech.espeak import Synthesizer, Voice\n"
        "import os, tempfile\n"
        "machine = Synthesizer()\n"
        "machine.speak('hello', Voice())\n"
        f"assert os.listdir(tempfile.gettempdir())\n{ending}\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert done.returncode == (3 if "3" in ending else 0)
    assert not list(tmp_path.iterdir())


def test_temporary_folder_with_a_long_path_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 150)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with pytest.raises(StudyError, match="path too long for espeak-ng"):
        Synthesizer()
    assert not list(deep.iterdir())
