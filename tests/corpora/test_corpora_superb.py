"""SUPERB's corpora in their published layouts: splits, labels, and the tasks that read them."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from ssl_bench import audio, registry
from ssl_bench.corpora import iemocap, speech_commands, voxceleb1
from ssl_bench.corpora._silence import trimmed
from ssl_bench.corpora.base import SPLITS
from ssl_bench.errors import StudyError


def lexicons(root):
    return [str(root / f"librispeech-lexicon-{name}-g2p.txt") for name in ("200k", "allothers")]


def libri(root, **keys):
    return {"kind": "librispeech", "root": root / "LibriSpeech", "lexicons": lexicons(root), **keys}


def vox(root, protocol, **keys):
    return {"kind": "voxceleb1", "root": root, "protocol": protocol, **keys}


def commands(root):
    train, test = (f"{root}/speech_commands_{name}v0.01" for name in ("", "test_set_"))
    return {"kind": "speech_commands", "root": train, "test_root": test}


def entries(root):
    """One entry of each kind, on the layouts below ``root``."""
    return {
        "librispeech": libri(root / "librispeech"),
        "iemocap": {"kind": "iemocap", "root": root / "iemocap", "fold": 1},
        "fluent_speech_commands": {
            "kind": "fluent_speech_commands",
            "root": root / "fluent_speech_commands",
        },
        "identification": vox(root / "voxceleb1", "identification"),
        "verification": vox(root / "voxceleb1", "verification"),
        "ml_superb": {
            "kind": "ml_superb",
            "root": root / "ml_superb",
            "track": "multilingual",
            "train": "10min",
        },
        "speech_commands": commands(root / "speech_commands"),
        "snips": {"kind": "snips", "root": root / "snips"},
    }


NAMES = list(entries(Path()))


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_corpus_misses_nothing_and_keeps_its_order(written, load, name):
    entry = load(**entries(written)[name])
    assert entry.missing() == []
    first, again = entry.table(), entry.table()
    assert list(first.index) == list(again.index)
    assert set(first["split"]) == set(SPLITS)
    assert first["id"].is_unique


@pytest.mark.parametrize("name", NAMES)
def test_every_corpus_has_a_strict_config(written, name):
    keys = {k: str(v) if isinstance(v, Path) else v for k, v in entries(written)[name].items()}
    module = registry.load("corpora", keys["kind"])
    with pytest.raises(ValueError, match="rooot"):
        module.Config.model_validate({**keys, "rooot": "x"})


# ---- LibriSpeech


def test_librispeech_phones_are_the_first_pronunciation_without_silence(written, load, layouts):
    frame = load(**libri(written / "librispeech")).table()
    for _, row in frame.iterrows():
        expected = " ".join(layouts.WORDS[word] for word in row["text"].split())
        assert row["phones"] == expected
    assert "DH AH0" in " ".join(frame["phones"])  # THE has two pronunciations
    assert frame["speaker"].nunique() == 6


def test_librispeech_is_what_lhotses_recipe_reads(written, load):
    from lhotse.recipes import prepare_librispeech

    parts = {"train": "train-clean-100", "dev": "dev-clean", "test": "test-clean"}
    root = written / "librispeech" / "LibriSpeech"
    made = prepare_librispeech(root, dataset_parts=list(parts.values()))
    frame = load(**libri(written / "librispeech", lexicons=[])).table()
    assert "phones" not in frame
    for split, part in parts.items():
        theirs = {
            s.id: (s.text, s.speaker, round(s.duration, 6)) for s in made[part]["supervisions"]
        }
        ours = frame[frame["split"] == split]
        columns = zip(ours["text"], ours["speaker"], ours["duration"].round(6), strict=True)
        assert dict(zip(ours.index, columns, strict=True)) == theirs


def test_librispeech_serves_phone_and_speech_recognition(written, staged, repository):
    vocabulary = repository / "config" / "phones_superb.txt"
    assert len(vocabulary.read_text().split()) == 71
    keys = libri(written / "librispeech")
    prepared, task = staged(keys, kind="pr", vocabulary_file=str(vocabulary))
    assert len(task.symbols) == 74
    name = task.ids("train")[0]
    phones = prepared.table.set_index("id").at[name, "phones"].split()
    target = task.target(name)
    assert list(task.symbols[target[:-1]]) == phones
    assert task.symbols[target[-1]] == "<eos>"
    _, task = staged(keys, kind="asr")
    assert set(task.symbols) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ'|") | {"<pad>", "<eos>", "<unk>"}


def test_librispeech_words_in_no_lexicon_are_counted(copied, load):
    root = copied("librispeech")
    transcript = next((root / "LibriSpeech" / "dev-clean").rglob("*.trans.txt"))
    lines = transcript.read_text().splitlines()
    lines[0] = f"{lines[0].split()[0]} QUARK HELLO XYLEM ZEBRA VOLE QUARK"
    transcript.write_text("\n".join(lines))
    line = load(**libri(root)).error()
    assert "4 words are not in " in line
    assert line.count(" in 10") == 3
    assert "QUARK in " in line
    assert line.endswith("; …")


def test_librispeech_transcripts_have_28_characters(copied, load):
    root = copied("librispeech")
    transcript = next((root / "LibriSpeech" / "test-clean").rglob("*.trans.txt"))
    lines = transcript.read_text().splitlines()
    name = lines[0].split()[0]
    transcript.write_text("\n".join([f"{name} HELLO WÖRLD 3", *lines[1:]]))
    line = load(**libri(root)).error()
    assert f"1 transcripts are not in A-Z, apostrophe, space: {name}: 'HELLO WÖRLD 3'" in line


# ---- IEMOCAP


@pytest.mark.parametrize("fold", [1, 5])
def test_iemocap_folds_by_session_and_splits_as_random_split(written, load, fold):
    keys = {"kind": "iemocap", "root": written / "iemocap", "fold": fold}
    frame = load(**keys).table()
    test = frame[frame["split"] == "test"]
    assert set(test["session"]) == {str(fold)}
    assert str(fold) not in set(frame[frame["split"] != "test"]["session"])
    order = {dialog: place for place, dialog in enumerate(iemocap._ORDER.read_text().split())}
    rest = frame[frame["split"] != "test"]
    listed = sorted(rest.index, key=lambda n: (n[4], order[n.rpartition("_")[0]], n))
    torch.manual_seed(0)
    sizes = [int(0.8 * len(listed)), len(listed) - int(0.8 * len(listed))]
    train, dev = torch.utils.data.random_split(listed, sizes)
    assert list(frame.index[frame["split"] == "train"]) == list(train)
    assert list(frame.index[frame["split"] == "dev"]) == list(dev)


def test_iemocap_order_is_of_all_dialogs():
    dialogs = iemocap._ORDER.read_text().split()
    assert len(dialogs) == len(set(dialogs)) == 151
    assert [dialog[4] for dialog in dialogs] == sorted(dialog[4] for dialog in dialogs)
    assert sum(iemocap.UTTERANCES) == 5531


def test_iemocap_has_four_classes_and_who_speaks(written, load):
    frame = load(kind="iemocap", root=written / "iemocap", fold=2).table()
    assert set(frame["emotion"]) == {"neu", "hap", "ang", "sad"}
    assert len(frame) == 5 * 2 * 10  # of 14 labels two are fru, two are xxx
    assert frame.at["Ses01M_impro01_F001", "emotion"] == "hap"  # was exc
    assert frame.at["Ses01M_impro01_F001", "speaker"] == "Ses01F"
    assert frame["speaker"].nunique() == 10


def test_iemocap_serves_emotion_recognition(written, staged):
    keys = {"kind": "iemocap", "root": written / "iemocap", "fold": 3}
    prepared, task = staged(keys, kind="er")
    assert task.classes == {"emotion": ["ang", "hap", "neu", "sad"]}
    summary = json.loads((prepared.folder / "summary.json").read_text())
    assert summary["test"]["labels"]["emotion"]["counts"] == {
        "hap": 8,
        "ang": 4,
        "neu": 4,
        "sad": 4,
    }
    assert summary["test"]["published_utterances"] == 1151


def test_iemocap_ignores_resource_forks_and_refuses_other_files(copied, load):
    root = copied("iemocap")
    labels = root / "Session1" / "dialog" / "EmoEvaluation"
    (labels / "._Ses01M_impro01.txt").write_bytes(b"\x00\xff\xfe")
    keys = {"kind": "iemocap", "root": root, "fold": 1}
    assert len(load(**keys).table()) == 100
    (labels / "Ses01M_impro01.txt").write_text("nothing\n")
    assert "no line '[<start> - <end>]" in load(**keys).error()


# ---- Fluent Speech Commands


def test_fluent_speech_commands_serves_intents(written, staged):
    keys = {"kind": "fluent_speech_commands", "root": written / "fluent_speech_commands"}
    prepared, task = staged(keys, kind="ic")
    assert {slot: len(labels) for slot, labels in task.classes.items()} == {
        "action": 4,
        "object": 4,
        "location": 3,
    }
    row = prepared.table.iloc[0]
    assert row["text"] == "Turn on the lights in the kitchen"
    assert (row["action"], row["object"], row["location"]) == ("activate", "lights", "kitchen")
    assert row["speaker"] == "speakertrain0"


def test_fluent_speech_commands_lists_are_checked(copied, load):
    root = copied("fluent_speech_commands")
    file = root / "data" / "valid_data.csv"
    text = file.read_text()
    keys = {"kind": "fluent_speech_commands", "root": root}
    file.write_text(text.replace("action", "acton"))
    assert load(**keys).error().startswith(f"{file}: no column 'action'; found path, speakerId")
    file.write_text(text.replace("activate", ""))
    assert load(**keys).error() == f"{file}: row 2: no action"


# ---- VoxCeleb1


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


# ---- Speech Commands


def test_speech_commands_serves_keywords(written, staged):
    prepared, task = staged(commands(written / "speech_commands"), kind="ks")
    assert len(task.classes["keyword"]) == 12
    frame = prepared.table
    silence = frame[frame["keyword"] == "_silence_"].groupby("split").size().to_dict()
    assert silence == {"train": 5, "dev": 1, "test": 1}
    assert set(frame["samples"]) == {16_000}
    bed = frame[frame["id"].str.startswith("bed/")]
    assert set(bed["keyword"]) == {"_unknown_"}


def test_speech_commands_hash_decides_and_a_tenth_is_left_out():
    # Made with s3prl's split_dataset on these names.
    expected = {
        "00000000": "dev",
        "9e3779b1": "dev",
        "3c6ef362": "train",
        "daa66d13": "train",
        "78dde6c4": "train",
        "17156075": "train",
        "b54cda26": "train",
        "538453d7": "train",
        "f1bbcd88": "train",
        "8ff34739": "train",
        "2e2ac0ea": "dev",
        "cc623a9b": "train",
    }
    assert {n: speech_commands.split_of(f"{n}_nohash_3.wav") for n in expected} == expected
    names = [f"{n:08x}_nohash_0.wav" for n in range(4000)]
    shares = [speech_commands.split_of(name) for name in names]
    assert abs(shares.count(None) / 4000 - 0.1) < 0.02
    assert abs(shares.count("dev") / 4000 - 0.1) < 0.02


# ---- SNIPS


def test_snips_has_a_slot_for_every_word_and_superbs_speakers(written, load):
    frame = load(kind="snips", root=written / "snips").table()
    assert frame.groupby("split")["speaker"].agg(set).to_dict() == {
        "train": {"Ivy", "Salli"},
        "dev": {"Amy", "Nicole"},
        "test": {"Brian", "Emma"},
    }
    row = frame.loc["Ivy-snips-train-1"]
    assert row["text"] == "PLAY ROCK AND ROLL PLEASE"
    assert row["slots"] == "O genre genre genre O"
    assert row["intent"] == "PlayMusic"
    words, slots = frame["text"].str.split().str.len(), frame["slots"].str.split().str.len()
    assert (words == slots).all()


@pytest.mark.parametrize(
    "line", ["Ivy-snips-train-1 BOS PLAY EOS\tO O", "Ivy BOS A EOS\tO O X", "Ivy-snips-train-1"]
)
def test_snips_lines_are_checked(copied, load, line):
    root = copied("snips")
    (root / "all.iob.snips.txt").write_text(line + "\n")
    with pytest.raises(StudyError, match=r"all\.iob\.snips\.txt:1: expected "):
        load(kind="snips", root=root).missing()


def test_snips_slots_are_summarised(written, staged):
    keys = {"kind": "snips", "root": written / "snips"}
    prepared, _ = staged(keys, kind="ks", column="intent")
    summary = json.loads((prepared.folder / "summary.json").read_text())
    assert summary["test"]["labels"]["slots"]["counts"] == {
        "O": 12,
        "genre": 6,
        "music_item": 2,
        "playlist_owner": 2,
    }


# ---- what is wrong with a folder


def one_recording(entry):
    """A recording that the entry needs."""
    return next(iter(entry.cuts()["test"])).recording.sources[0].source


@pytest.mark.parametrize("name", [n for n in NAMES if n != "speech_commands"])
def test_an_absent_recording_is_named(copied, load, tmp_path, name):
    kind = entries(tmp_path)[name]["kind"]
    copied(kind)
    entry = load(**entries(tmp_path)[name])
    path = one_recording(entry)
    Path(path).unlink()
    assert entry.missing() == [path]
    assert f": 1 files are missing: {path}" in entry.error()


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_folder_misses_something(load, tmp_path, name):
    entry = load(**entries(tmp_path)[name])
    assert entry.missing()
    assert "files are missing: " in entry.error()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fault", ["corrupt", "empty"])
def test_a_recording_that_cannot_be_used_is_named(copied, load, tmp_path, name, fault):
    copied(entries(tmp_path)[name]["kind"])
    entry = load(**entries(tmp_path)[name])
    path = Path(one_recording(entry))
    if fault == "corrupt":
        path.write_bytes(b"no sound")
    else:
        soundfile.write(path, np.zeros(0), 16_000, format="WAV")
    line = entry.error()
    said = "not readable as audio" if fault == "corrupt" else "empty recording (0 samples)"
    number = 2 if name == "verification" else 1  # test is dev, too
    assert f": {number} recordings cannot be used: {path}: {said}" in line


def test_a_truncated_recording_stops_the_stage_with_one_line(copied, study):
    from ssl_bench import corpus

    root = copied("librispeech")
    path = max((root / "LibriSpeech" / "test-clean").rglob("*.flac"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    made = study(libri(root), kind="asr")
    with pytest.raises(StudyError) as raised:
        corpus.prepare(made, "it")
    assert str(raised.value).startswith(f"corpora.it: 1 recordings cannot be used: {path}: ")
    assert not made.corpus_dir("it").exists()


def test_another_rate_or_two_channels_are_resampled_and_averaged(copied, staged, tone):
    root = copied("fluent_speech_commands")
    path = root / "wavs" / "speakers" / "speakertest0" / "test-0000.wav"
    tone(path, seconds=0.5, rate=44_100, channels=2)
    keys = {"kind": "fluent_speech_commands", "root": root}
    prepared, _ = staged(keys, kind="ic")
    row = prepared.table["id"].to_list().index("wavs/speakers/speakertest0/test-0000")
    assert len(prepared.waveform(row)) == 8_000
    assert len(audio.load(path)) == 8_000
