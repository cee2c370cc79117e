"""SUPERB's corpora but VoxCeleb1, in their published layouts: splits, labels, and their tasks."""

import csv
import json
import re

import pandas as pd
import pytest
import soundfile
import torch

from ssl_bench.corpora import iemocap, speech_commands
from ssl_bench.errors import StudyError


def lexicons(root):
    return [str(root / f"librispeech-lexicon-{name}-g2p.txt") for name in ("200k", "allothers")]


def libri(root, **keys):
    return {"kind": "librispeech", "root": root / "LibriSpeech", "lexicons": lexicons(root), **keys}


def commands(root):
    train, test = (f"{root}/speech_commands_{name}v0.01" for name in ("", "test_set_"))
    return {"kind": "speech_commands", "root": train, "test_root": test}


# ---- LibriSpeech


def test_librispeech_phones_are_the_first_pronunciation_without_silence(written, load, layouts):
    frame = load(**libri(written / "librispeech")).table()
    for _, row in frame.iterrows():
        expected = " ".join(layouts.WORDS[word] for word in row["text"].split())
        assert row["phones"] == expected
    assert "DH AH0" in " ".join(frame["phones"])  # THE has two pronunciations
    assert frame["speaker"].nunique() == 6


def test_librispeech_has_every_line_of_the_transcripts_by_name(written, load):
    parts = {"train": "train-clean-100", "dev": "dev-clean", "test": "test-clean"}
    root = written / "librispeech" / "LibriSpeech"
    loaded = load(**libri(written / "librispeech", lexicons=[]))
    frame, cuts = loaded.table(), loaded.cuts()
    assert "phones" not in frame
    assert set(frame["language"]) == {"en"}
    for split, part in parts.items():
        lines = [
            line.split(maxsplit=1)
            for transcript in (root / part).rglob("*.trans.txt")
            for line in transcript.read_text().splitlines()
        ]
        ours = frame[frame["split"] == split]
        found = zip(ours["id"], ours["text"], strict=True)
        assert list(found) == sorted((name, text) for name, text in lines)
        assert [name.split("-")[0] for name in ours["id"]] == list(ours["speaker"])
        for cut in cuts[split]:
            sound = next(root.rglob(f"{cut.id}.flac"))
            assert cut.recording.sources[0].source == str(sound)
            assert cut.num_samples == soundfile.info(sound).frames
            assert cut.supervisions[0].alignment is None


def test_librispeech_tells_what_lhotses_recipe_passes_over(copied, load):
    root = copied("librispeech")
    transcript = next((root / "LibriSpeech" / "dev-clean").rglob("*.trans.txt"))
    text = transcript.read_text()
    transcript.write_text("\ufeff" + text)  # which the recipe takes for a part of the name
    line = load(**libri(root)).error()
    assert line.endswith(f"1 utterances are passed over by lhotse: {text.split()[0]}")
    transcript.write_text(text + "\n")
    number = len(text.splitlines()) + 1
    expected = f"{transcript}:{number}: expected '<utterance> <text>': ''"
    with pytest.raises(StudyError, match=re.escape(expected)):
        load(**libri(root)).missing()


def test_librispeech_reads_no_alignments(copied, load):
    """Which lie beside the transcripts, where somebody has fetched them."""
    root = copied("librispeech")
    transcript = next((root / "LibriSpeech" / "dev-clean").rglob("*.trans.txt"))
    beside = transcript.with_name(transcript.name.replace("trans", "alignment"))
    beside.write_text("not in order\n")
    assert len(load(**libri(root)).table()) == 20


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
    specials = {"<s>", "<pad>", "<eos>", "<unk>"}
    assert set(task.symbols) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ'|") | specials


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


def test_fluent_speech_commands_has_every_row_of_the_lists_in_order(written, load):
    root = written / "fluent_speech_commands"
    loaded = load(kind="fluent_speech_commands", root=root)
    frame, cuts = loaded.table(), loaded.cuts()
    names = {"train": "train", "dev": "valid", "test": "test"}
    for split, name in names.items():
        with (root / "data" / f"{name}_data.csv").open() as file:
            rows = list(csv.DictReader(file))
        ours = frame[frame["split"] == split]
        assert list(ours["id"]) == [row["path"].removesuffix(".wav") for row in rows]
        columns = {"speaker": "speakerId", "text": "transcription"}
        for label in ("speaker", "text", "action", "object", "location"):
            assert list(ours[label]) == [row[columns.get(label, label)] for row in rows]
        sources = [cut.recording.sources[0].source for cut in cuts[split]]
        assert sources == [str(root / row["path"]) for row in rows]


def test_fluent_speech_commands_cells_are_stripped_and_may_lack_text(copied, load):
    root = copied("fluent_speech_commands")
    file = root / "data" / "test_data.csv"
    with file.open() as source:
        rows = list(csv.reader(source))
    rows[1][3:5] = ["", " activate "]
    rows[2][3] = " Turn it off "
    with file.open("w", newline="") as sink:
        csv.writer(sink).writerows(rows)
    frame = load(kind="fluent_speech_commands", root=root).table()
    first, second = frame[frame["split"] == "test"].iloc[:2].itertuples()
    assert pd.isna(first.text)
    assert (first.action, second.text) == ("activate", "Turn it off")


def test_fluent_speech_commands_lists_are_checked(copied, load):
    root = copied("fluent_speech_commands")
    file = root / "data" / "valid_data.csv"
    text = file.read_text()
    keys = {"kind": "fluent_speech_commands", "root": root}
    file.write_text(text.replace("action", "acton"))
    line = load(**keys).error()
    assert line.startswith(f"{file}: no column 'action'; did you mean 'acton'? found: acton, ")
    assert line.endswith("expected: path, speakerId, transcription, action, object, location")
    file.write_text(text.replace("activate", ""))
    assert load(**keys).error() == f"{file}: row 2: action: expected a value, found an empty cell"


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


def test_speech_commands_noise_may_be_whole_for_crops_of_a_second(written, staged):
    keys = {**commands(written / "speech_commands"), "silence": "files"}
    crops = {"crop_seconds": 1, "crop": "waveform"}
    prepared, _ = staged(keys, kind="ks", training=crops)
    frame = prepared.table
    silence = frame[frame["keyword"] == "_silence_"]
    assert silence.groupby("split")["samples"].agg(list).to_dict() == {
        "train": [96_000],
        "dev": [16_000],
        "test": [16_000],
    }
    assert set(frame["samples"][frame["keyword"] != "_silence_"]) == {16_000}


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


# ---- Recipes of lhotse's that cannot read these layouts


def test_lhotse_knows_voxceleb1_as_one_tree_beside_a_table(written):
    from lhotse.recipes import prepare_voxceleb

    with pytest.raises(FileNotFoundError, match=r"vox1_meta\.csv"):
        prepare_voxceleb(written / "voxceleb1")


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
