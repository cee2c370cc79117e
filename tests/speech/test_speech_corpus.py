import os
import platform
import subprocess
import sys
import wave
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from lhotse import CutSet
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__
from scipy.signal import correlate

from ssl_bench import registry
from ssl_bench.corpora.base import table
from ssl_bench.corpora.synthetic import Config, content_hash, prepare
from ssl_bench.errors import StudyError
from ssl_bench.speech import augment, probe, prosody, text
from ssl_bench.speech.espeak import Voice
from ssl_bench.speech.recipe import Recipe, recorded, utterance

TINY = {"train": 6, "dev": 2, "test": 3}
EXACT = {"recipe": "sentences", **TINY, "languages": ["en-us", "es", "cmn"], "speakers": 4} | {
    "snr": [0.0, 15.0],
    "babble": 0.5,
    "reverberation": 0.5,
    "equalisation": 0.5,
    "seed": 7,
}
# Of the versions below. A new version of one of them may need a new pair.
LABELS = "bde44376e3b416a3498456adec8ce10b3b3bde431389ae399fc9fe5bb26d81b6"
AUDIO = "06d5be82de3df2318c019dcb9e66b9fabab28163a0977ced987c88d29bab13c2"
VERSIONS = {name: probe.MADE_WITH[name] for name in ("numpy", "espeakng-loader")}


def config(**keys) -> Config:
    return Config(kind="synthetic", **keys)


def differing(versions: dict[str, str]) -> dict[str, str]:
    return {name: version(name) for name in versions if version(name) != versions[name]}


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> dict[str, CutSet]:
    return prepare(config(**EXACT), tmp_path_factory.mktemp("exact"))


def test_kind_is_found_by_its_name() -> None:
    assert registry.load("corpora", "synthetic").Config is Config


def test_labels_are_the_committed_ones(exact: dict[str, CutSet]) -> None:
    if other := differing(VERSIONS):
        pytest.skip(f"hash was committed with {VERSIONS}, found {other}")
    assert content_hash(exact, audio=False) == LABELS


def test_audio_is_the_committed_one(exact: dict[str, CutSet]) -> None:
    if other := differing(probe.MADE_WITH):
        pytest.skip(f"hash was committed with other versions, found {other}")
    assert content_hash(exact) == AUDIO


def test_speech_that_is_not_the_committed_one_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not differing(probe.MADE_WITH):
        prepare(config(recipe="keywords", **TINY), tmp_path)
        assert "warning" not in capfd.readouterr().err
    monkeypatch.setattr(probe, "spoken", lambda: "other")
    prepare(config(recipe="keywords", **TINY), tmp_path)
    (line,) = [x for x in capfd.readouterr().err.splitlines() if x.startswith("warning")]
    assert "generated speech is not that of the committed results" in line
    assert f"numpy {version('numpy')} ({probe.MADE_WITH['numpy']})" in line


def test_audio_does_not_depend_on_the_extensions_of_the_processor(
    exact: dict[str, CutSet], tmp_path: Path
) -> None:
    # numpy and OpenBLAS choose their routines by what the processor offers: take that away.
    if platform.machine() != "x86_64":
        pytest.skip("names of x86-64 extensions")
    code = (
        "from pathlib import Path\n"
        "from ssl_bench.corpora.synthetic import Config, content_hash, prepare\n"
        f"cuts = prepare(Config(kind='synthetic', **{EXACT!r}), Path({str(tmp_path)!r}))\n"
        "print(content_hash(cuts))\n"
    )
    less = {"NPY_DISABLE_CPU_FEATURES": lowerable(), "OPENBLAS_CORETYPE": "Prescott"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **less},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-1] == content_hash(exact)


def lowerable() -> str:
    return " ".join(name for name in __cpu_dispatch__ if __cpu_features__[name])


def test_hash_sees_labels_and_audio(exact: dict[str, CutSet], tmp_path: Path) -> None:
    cuts = prepare(config(**EXACT), tmp_path)
    before = content_hash(cuts), content_hash(cuts, audio=False)
    path = Path(cuts["dev"][0].recording.sources[0].source)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    after = content_hash(cuts), content_hash(cuts, audio=False)
    assert before[0] != after[0]
    assert before[1] == after[1]
    cuts["dev"][0].supervisions[0].speaker = "somebody"
    assert content_hash(cuts, audio=False) != before[1]


def test_number_of_workers_changes_nothing(exact: dict[str, CutSet], tmp_path: Path) -> None:
    cuts = prepare(config(**EXACT), tmp_path, workers=2)
    assert content_hash(cuts) == content_hash(exact)


def test_another_seed_is_another_corpus(exact: dict[str, CutSet], tmp_path: Path) -> None:
    cuts = prepare(config(**{**EXACT, "seed": 8}), tmp_path)
    assert content_hash(cuts, audio=False) != content_hash(exact, audio=False)


def test_an_utterance_is_the_same_in_a_larger_corpus() -> None:
    small, large = Recipe(**EXACT), Recipe(**{**EXACT, "train": 50, "dev": 7})
    for split in ("train", "test"):
        first, second = utterance(small, split, 2), utterance(large, split, 2)
        np.testing.assert_array_equal(first.samples, second.samples)
        assert first[2:] == second[2:]


def test_files_and_labels_agree(exact: dict[str, CutSet]) -> None:
    rows = table(exact)
    assert rows.split.value_counts().to_dict() == TINY
    assert rows.id.is_unique
    assert set(rows.language) <= {"en-us", "es", "cmn"}
    assert rows.text.eq(rows.text.str.upper()).all()
    assert rows.phones.str.split().map(len).min() >= 3
    for cut in exact["train"]:
        with wave.open(cut.recording.sources[0].source) as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
            assert file.getnframes() == cut.num_samples
        samples = cut.load_audio()
        assert samples.shape == (1, cut.num_samples)
        assert np.abs(samples).max() < 1
        # Nowhere 10 ms of exact silence.
        frames = samples[0, : cut.num_samples // 160 * 160].reshape(-1, 160)
        assert np.abs(frames).max(axis=1).min() > 0


def test_clean_corpus_has_a_noise_floor_far_below_the_speech(tmp_path: Path) -> None:
    cuts = prepare(config(recipe="sentences", train=3, dev=1, test=1), tmp_path)
    for cut in cuts["train"]:
        samples = cut.load_audio()[0]
        pause = samples[: int(0.04 * 16000)]
        assert 0 < np.sqrt(np.mean(pause**2)) < 0.02 * np.sqrt(np.mean(samples**2))


@pytest.mark.parametrize("snr", [-10.0, 5.0])
@pytest.mark.parametrize("babble", [0.0, 1.0])
def test_recording_has_the_snr_of_the_recipe(snr: float, babble: float) -> None:
    recipe = Recipe(recipe="sentences", snr=[snr, snr], babble=babble)
    speech = augment.coloured_noise(np.random.default_rng(1), 32000, -3) * 0.1
    noisy = recorded(np.random.default_rng(2), speech, recipe).astype(np.float64)
    # What the recording has in common with the speech, where they fit best, is the speech in it.
    fits = correlate(noisy, speech, mode="valid")
    place = int(np.argmax(np.abs(fits)))
    kept = np.zeros_like(noisy)
    kept[place : place + len(speech)] = speech * (fits[place] / (speech @ speech))
    found = 10 * np.log10(augment.power(kept) / augment.power(noisy - kept))
    assert found == pytest.approx(snr, abs=0.6)


@pytest.mark.parametrize("disjoint", [True, False])
def test_speakers_are_disjoint_where_asked(tmp_path: Path, disjoint: bool) -> None:
    keys = {"recipe": "speakers", "train": 10, "dev": 4, "test": 6, "speakers": 5}
    cuts = prepare(
        config(**keys, disjoint_speakers=disjoint, dev_speakers=2, test_speakers=3), tmp_path
    )
    rows = table(cuts)
    speakers = rows.groupby("split").speaker.agg(set)
    if disjoint:
        assert [len(speakers[split]) for split in ("train", "dev", "test")] == [5, 2, 3]
        assert not speakers["train"] & speakers["dev"]
        assert not (speakers["train"] | speakers["dev"]) & speakers["test"]
    else:
        assert speakers["dev"] | speakers["test"] <= speakers["train"]
    assert set(rows[rows.split == "train"].speaker.value_counts()) == {2}


def test_keywords_are_all_said_by_many_speakers() -> None:
    recipe = Recipe(recipe="keywords", train=120, speakers=60)
    made = [utterance(recipe, "train", index) for index in range(120)]
    assert [u.custom["keyword"] for u in made[:30]] == list(text.keywords())
    assert all(u.text == u.custom["keyword"].upper() for u in made)
    for first in range(30):
        assert len({u.speaker for u in made[first::30]}) >= 2


def test_languages_are_balanced_and_speakers_are_not_tied_to_them() -> None:
    recipe = Recipe(recipe="languages", languages=["de", "fi", "tr"], speakers=3)
    made = [utterance(recipe, "train", index) for index in range(24)]
    assert [u.language for u in made] == ["de", "fi", "tr"] * 8
    assert len({(u.language, u.speaker) for u in made}) > 6


def test_prosody_classes_are_balanced_differ_and_overlap() -> None:
    recipe = Recipe(recipe="prosody")
    made = [utterance(recipe, "train", index) for index in range(10)]
    assert [u.custom["prosody"] for u in made] == list(prosody.STYLES) * 2
    rng = np.random.default_rng(0)
    drawn = {
        style: [prosody.expressive(rng, Voice(), style) for _ in range(300)]
        for style in prosody.STYLES
    }
    pitch = {style: np.array([m.pitch for _, m in drawn[style]]) for style in drawn}
    voicing = {style: np.array([v.voicing for v, _ in drawn[style]]) for style in drawn}
    assert pitch["happy"].mean() > pitch["neutral"].mean() + 5
    assert voicing["breathy"].mean() < voicing["neutral"].mean() - 15
    assert np.mean(pitch["happy"] < pitch["neutral"]) > 0.05
    weaker = [prosody.expressive(rng, Voice(), "happy", 0.2)[1].pitch for _ in range(300)]
    assert np.mean(weaker) < pitch["happy"].mean() - 5


def test_minutes_instead_of_a_count(tmp_path: Path) -> None:
    hashes = set()
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        keys = {"recipe": "sentences", "train_minutes": 0.4, "dev": 1, "test": 1}
        cuts = prepare(config(**keys), folder, workers)
        durations = [cut.duration for cut in cuts["train"]]
        assert sum(durations) >= 24 > sum(durations[:-1])
        assert [cut.id for cut in cuts["train"]] == [
            f"train-{i:06d}" for i in range(len(durations))
        ]
        assert len(list((folder / "audio").iterdir())) == len(durations) + 2
        hashes.add(content_hash(cuts))
    assert len(hashes) == 1


def test_files_of_a_stopped_run_are_removed(tmp_path: Path) -> None:
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "train-000007.wav").write_bytes(b"RIFF")
    prepare(config(recipe="keywords", train=2, dev=1, test=1), tmp_path)
    assert len(list((tmp_path / "audio").iterdir())) == 4


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"reverb": 0.5}, "unknown key 'reverb'; did you mean 'reverberation'"),
        ({"languages": ["en-us", "sw"]}, "languages: unknown 'sw'; did you mean 'sv'"),
        ({"languages": ["de", "de"]}, "languages: repeated"),
        ({"words": [6, 3]}, r"words: found \[6, 3\], expected \[least, greatest\]"),
        ({"snr": [10, 0]}, r"snr: found \[10.0, 0.0\], expected"),
        ({"vocabulary": 5000}, "vocabulary: found 5000, expected"),
        ({"recipe": "keywords", "languages": ["de"]}, "keywords are in 'en-us' only"),
    ],
)
def test_mistakes_are_told_in_one_line(keys: dict, message: str) -> None:
    with pytest.raises(StudyError, match=message) as caught:
        config(**{"recipe": "sentences", **keys})
    assert "\n" not in str(caught.value)
