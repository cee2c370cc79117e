"""VoxCeleb1 in its published layout: identification, verification, and what may be dev."""

import numpy as np
import pytest
import soundfile

from ssl_bench import audio
from ssl_bench.corpora import voxceleb1
from ssl_bench.corpora._silence import trimmed
from ssl_bench.errors import StudyError


def vox(root, protocol, **keys):
    return {"kind": "voxceleb1", "root": root, "protocol": protocol, **keys}


def test_voxceleb1_identification(written, staged):
    keys = vox(written / "voxceleb1", "identification")
    prepared, task = staged(keys, kind="sid")
    counts = prepared.table["split"].value_counts().to_dict()
    assert counts == {"train": 18, "dev": 6, "test": 6}
    assert len(task.classes["speaker"]) == 6


def test_voxceleb1_verification_by_default_selects_on_test(written, staged, tmp_path):
    keys = vox(written / "voxceleb1", "verification")
    trials = "work/small/corpora/it/trials.txt"
    # The corpus stage checks the task's labels, so the list is written before it ends.
    prepared, task = staged(keys, kind="sv", trials_file=trials)
    frame = prepared.table.set_index("id")
    assert (prepared.folder / "trials.txt").is_file()
    for split in ("dev", "test"):
        assert len(task.trials[split]) == 45
        assert task.trials[split]["label"].sum() == 20
    test = frame[frame["split"] == "test"]
    dev = frame[frame["split"] == "dev"]
    assert list(dev.index) == [f"dev/{name}" for name in test.index]
    assert list(dev["crc32"]) == list(test["crc32"])
    train = frame[frame["split"] == "train"]
    assert len(train) == 4 * 4  # the first of each speaker's five is shorter than 32,000 samples
    assert train["samples"].min() > 32_000
    for row in (0, len(frame) - 1):
        path = written / "voxceleb1" / ("dev", "test")[row > 0] / "wav" / frame.index[row]
        cut = audio.load(path)
        louder = np.abs(prepared.waveform(row)).max() / np.abs(cut * 32767).max()
        assert abs(louder - 10 ** (-3 / 20)) < 0.001


def test_voxceleb1_cuts_silence_out_and_measures_then(copied, staged):
    root = copied("voxceleb1")
    pause = np.zeros(16_000)
    for name in ("dev/wav/id10001/video000001", "test/wav/id10270/video000001"):
        path = root / name / "00001.wav"
        sound = soundfile.read(path)[0]
        soundfile.write(path, np.concatenate([sound[:12_000], pause, sound[:12_000]]), 16_000)
    trials = "work/small/corpora/it/trials.txt"
    named = ["id10001/video000001/00001.wav", "id10270/video000001/00001.wav"]
    prepared, _ = staged(vox(root, "verification"), kind="sv", trials_file=trials)
    frame = prepared.table.set_index("id")
    assert named[0] not in frame.index  # 40,000 samples, of which 24,000 are left or so
    assert 22_000 < frame.at[named[1], "samples"] < 26_000
    keys = vox(root, "verification", trim_silence=False, gain=0.0)
    prepared, _ = staged(keys, kind="sv", trials_file=trials)
    assert list(prepared.table.set_index("id").loc[named, "samples"]) == [40_000, 40_000]


def test_voxceleb1_silent_recordings_are_told(copied, study):
    from ssl_bench import corpus

    root = copied("voxceleb1")
    name = "id10270/video000001/00001.wav"
    soundfile.write(root / "test" / "wav" / name, np.zeros(40_000), 16_000)
    made = study(vox(root, "verification"), kind="sv")
    with pytest.raises(StudyError, match=f"cut dev/{name}: 0 samples are left of 40000"):
        corpus.prepare(made, "it")


@pytest.mark.parametrize(
    ("seed", "length"),
    [(0, 6255), (1, 0), (2, 8357), (3, 25469), (4, 15007), (5, 23829), (6, 24420), (7, 9847)],
)
def test_silence_is_cut_out_as_sox_does(seed, length):
    # Lengths of sox 14.4.2: sox -D in.wav -e floating-point -b 32 out.wav gain -3.0 silence
    # 1 0.1 0.1% -1 0.1 0.1%. Without the gain sox would compare with 16 bits only.
    random = np.random.default_rng(seed)
    levels = random.choice([0, 0, 3e-4, 8e-4, 1.2e-3, 0.01, 0.1], size=40)
    levels = np.repeat(levels, int(random.integers(200, 2500)))
    samples = np.round(levels * random.standard_normal(len(levels)) * 32767) / 32768
    assert len(trimmed((samples * 10 ** (-3 / 20)).astype(np.float32))) == length


def test_voxceleb1_published_trials_are_a_trials_file_as_they_stand(written, staged):
    keys = vox(written / "voxceleb1", "verification", dev_speakers=2)
    list_ = written / "voxceleb1" / "voxceleb1_test_v2.txt"
    prepared, task = staged(keys, kind="sv", trials_file=str(list_), trials=10)
    assert len(task.trials["test"]) == 45
    assert len(task.trials["dev"]) == 10
    speakers = prepared.table.groupby("split")["speaker"].agg(set)
    assert len(speakers["dev"]) == len(speakers["train"]) == 2
    assert not speakers["dev"] & speakers["train"]


def test_voxceleb1_dev_trials_take_their_speakers_from_train(copied, staged):
    root = copied("voxceleb1")
    a, b = (f"id10002/video00000{n}/00001.wav" for n in (1, 2))
    c = "id10003/video000001/00001.wav"
    (root / "dev.txt").write_text(f"1 {a} {b}\n0 {a} {c}\n")
    keys = vox(root, "verification", dev_trials=root / "dev.txt")
    prepared, task = staged(keys, kind="sv", trials_file="work/small/corpora/it/trials.txt")
    assert list(task.trials["dev"]["id"]) == [f"{a}|{b}", f"{a}|{c}"]
    speakers = prepared.table.groupby("split")["speaker"].agg(set)
    assert speakers["train"] == {"id10001", "id10004"}


@pytest.mark.parametrize(
    ("protocol", "list_", "bad", "expected"),
    [
        ("identification", "veri_test_class.txt", "4 id10001/a/1.wav", "expected '<1|2|3> "),
        ("identification", "veri_test_class.txt", "1 id10001.wav", "expected '<1|2|3> "),
        ("verification", "voxceleb1_test_v2.txt", "1 a", "expected '<1|0> <recording> "),
    ],
)
def test_voxceleb1_lists_are_checked(copied, load, protocol, list_, bad, expected):
    root = copied("voxceleb1")
    with (root / list_).open("a") as file:
        file.write(bad + "\n")
    with pytest.raises(StudyError, match=r"\.txt:\d+: expected") as raised:
        load(**vox(root, protocol)).missing()
    assert expected in str(raised.value)


def test_voxceleb1_trials_that_name_absent_files(copied, load):
    root = copied("voxceleb1")
    with (root / "voxceleb1_test_v2.txt").open("a") as file:
        file.writelines(f"0 id10270/gone/{n}.wav id10271/video000001/00001.wav\n" for n in "12345")
    line = load(**vox(root, "verification")).error()
    assert "5 files are missing: " in line
    assert f"{root}/test/wav/id10270/gone/3.wav; …" in line


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"dev_speakers": 1, "dev_trials": "x"}, "give dev_trials or dev_speakers, found both"),
        ({"classes": "x"}, "classes is no key of protocol 'verification'"),
        ({"protocol": "identification", "min_samples": 1}, "min_samples is no key of protocol"),
    ],
)
def test_voxceleb1_keys_that_do_not_go_together(keys, expected):
    given = {"kind": "voxceleb1", "root": "x", "protocol": "verification", **keys}
    with pytest.raises(StudyError, match=expected):
        voxceleb1.Config.model_validate(given)


def test_voxceleb1_cannot_hold_out_every_speaker(written, load):
    line = load(**vox(written / "voxceleb1", "verification", dev_speakers=4)).error()
    assert "dev_speakers is 4, but " in line
    assert "has only 4 speakers" in line
