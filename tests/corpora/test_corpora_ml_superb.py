"""ML-SUPERB's layout: tracks, the pooled test set, reserved languages, lengths, text and phones."""

import shutil
import sys
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import soundfile

from ssl_bench.corpora import _phonetic, ml_superb
from ssl_bench.errors import StudyError


def keys(root, track="multilingual", train="10min", **more):
    return {"kind": "ml_superb", "root": root, "track": track, "train": train, **more}


@pytest.fixture
def root(copied):
    return copied("ml_superb")


def of(frame, split):
    return frame[frame["split"] == split]


def test_there_are_13_sets_of_9_languages():
    assert len(ml_superb.MONOLINGUAL) == 13
    assert len({track[:3] for track in ml_superb.MONOLINGUAL}) == 9
    assert set(ml_superb.MONOLINGUAL.values()) <= set(ml_superb.DATASETS)
    few = ml_superb._few_shot()
    assert len(few) == 20
    assert {len(names) for names in few.values()} == {5}


@pytest.mark.parametrize("track", list(ml_superb.MONOLINGUAL))
def test_a_set_trains_on_one_dataset_and_is_tested_on_all_of_its_language(written, load, track):
    frame = load(**keys(written / "ml_superb", track, phones=False)).table()
    assert set(frame["language"]) == {track[:3]}
    for split in ("train", "dev"):
        assert set(of(frame, split)["dataset"]) == {ml_superb.MONOLINGUAL[track]}
    having = {p.parent.name for p in (written / "ml_superb").glob(f"*/{track[:3]}")}
    assert set(of(frame, "test")["dataset"]) == having
    assert not of(frame, "test")["text"].str.contains(r"[!,.'’]").any()


def test_an_hour_is_more_than_ten_minutes_and_dev_and_test_are_the_same(written, load):
    short = load(**keys(written / "ml_superb", "deu1")).table()
    long = load(**keys(written / "ml_superb", "deu1", "1h")).table()
    assert set(of(short, "train").index) < set(of(long, "train").index)
    for split in ("dev", "test"):
        assert list(of(short, split).index) == list(of(long, split).index)


def test_monolingual_recognition_reads_it(written, staged):
    prepared, task = staged(keys(written / "ml_superb", "eng1"), kind="mono_asr")
    assert set("HELLO") < set(task.symbols)
    assert not set("h!'") & set(task.symbols)
    assert prepared.table["speaker"].isna().all()


def test_languages_are_identified(written, staged):
    _, task = staged(keys(written / "ml_superb"), kind="lid")
    assert len(task.classes["language"]) == 13


@pytest.mark.parametrize(
    ("reserved", "train", "test"), [("few_shot", 5, 8), ("zero_shot", 0, 8), ("none", 0, 0)]
)
def test_reserved_languages(written, load, reserved, train, test):
    frame = load(**keys(written / "ml_superb", reserved=reserved)).table()
    languages = {"dan", "sun", "tsn"}
    for split, number in (("train", train), ("test", test)):
        rows = of(frame, split)
        chosen = rows[rows["language"].isin(languages)]
        assert len(chosen) == number
        assert set(chosen["reserved"]) <= {"yes"}
        assert set(rows[~rows["language"].isin(languages)]["reserved"]) == {"no"}
    if train:
        chosen = of(frame, "train").query("reserved == 'yes'")
        published = set().union(*ml_superb._few_shot().values())
        assert set(chosen.index) <= published


@pytest.mark.parametrize(
    ("text", "monolingual", "multilingual"),
    [
        ("Hello, it's [laughs] me.", "HELLO ITS LAUGHS ME", "HELLO ITS ME"),
        ("  naïve   – façade!  ", "NAÏVE – FAÇADE", "NAÏVE – FAÇADE"),
        ("straße", "STRASSE", "STRASSE"),
        ("...", "", ""),
    ],
)
def test_text_is_normalised(text, monolingual, multilingual):
    assert ml_superb.normalised(text, False) == monolingual
    assert ml_superb.normalised(text, True) == multilingual


def rename(root, split, text):
    """Give the first utterance of a split of eng1 another text; return its file."""
    transcript = root / "mls" / "eng" / f"transcript_10min_{split}.txt"
    lines = transcript.read_text(encoding="utf-8").splitlines()
    name = lines[0].split()[0]
    transcript.write_text("\n".join([f"{name} eng {text}", *lines[1:]]), encoding="utf-8")
    return root / "mls" / "eng" / "wav" / f"{name}.wav"


def test_train_and_dev_last_a_tenth_of_a_second_to_twenty(root, load, tone):
    for split, seconds in (("train", 20.5), ("dev", 0.05), ("test", 20.5)):
        tone(rename(root, split, "a text"), seconds=seconds)
    frame = load(**keys(root, "eng1")).table()
    assert [len(of(frame, split)) for split in ("train", "dev", "test")] == [3, 1, 10]


def test_utterances_without_text_are_left_out(root, load, capsys):
    rename(root, "test", "!!!")
    frame = load(**keys(root, "eng1")).table()
    assert len(of(frame, "test")) == 9
    assert "test: 1 of 10 utterances have no text or no sound" in capsys.readouterr().err


def test_empty_recordings_are_left_out_of_the_spoken_wikipedia_only(root, load):
    for dataset in ("swc", "nchlt"):
        listed = (root / dataset / "eng" / "transcript_10min_test.txt").read_text()
        wav = root / dataset / "eng" / "wav" / f"{listed.split()[0]}.wav"
        soundfile.write(wav, np.zeros(0), 16_000)
    line = load(**keys(root, "eng1")).error()
    assert f"1 recordings cannot be used: {wav}: empty recording" in line
    shutil.copy(next(wav.parent.glob("*2.wav")), wav)
    assert len(of(load(**keys(root, "eng1")).table(), "test")) == 9


def test_a_separator_within_a_text_ends_no_line(root, load):
    wav = rename(root, "train", "one\u2028two")
    assert load(**keys(root, "eng1")).table().at[wav.stem, "text"] == "ONE TWO"


@pytest.mark.parametrize("line", ["mls_eng_000200", "mls_eng_000200 eng"])
def test_a_line_of_another_form(root, load, line):
    file = root / "mls" / "eng" / "transcript_10min_dev.txt"
    file.write_text(line + "\n")
    with pytest.raises(StudyError) as raised:
        load(**keys(root, "eng1")).missing()
    assert str(raised.value) == f"{file}:1: expected '<utterance> <field> <text>': {line!r}"


def test_what_is_missing_is_named(root, load):
    (root / "voxpopuli" / "eng" / "transcript_10min_test.txt").unlink()
    gone = [f"{root}/voxpopuli/eng/transcript_10min_test.txt"]
    assert load(**keys(root, "eng1")).missing() == gone
    assert load(**keys(root)).missing() == gone
    assert load(**keys(root, "rus")).missing() == []
    shutil.rmtree(root / "mexico-el" / "xty")
    assert load(**keys(root, "xty")).missing() == [f"{root}/mexico-el/xty/"]
    shutil.rmtree(root / "LAD")  # has no English, but only its folder can say so
    for track in ("eng1", "multilingual"):
        assert load(**keys(root, track)).missing() == [f"{root}/LAD/"]


def folders(root, track="multilingual", **more):
    config = ml_superb.Config(**keys(str(root), track, **more))
    return {gone.removeprefix(f"{root}/").rstrip("/") for gone in ml_superb.lacking(config)}


def test_folders_that_published_lists_name_are_told(root):
    few = ml_superb._few_shot()
    gone = folders(root)
    assert {folder.split("/")[1] for folder in gone} == (set(few) - {"dan", "sun"}) | {"nld", "dan"}
    assert {"fleurs/dan", "commonvoice/epo", "nchlt/tsn", "mexico-el/tos", "swc/nld"} <= gone
    assert not gone & {"NST/dan", "commonvoice/dan", "googlei18n_asr/sun", "swc/eng", "mls/eng"}
    assert folders(root, reserved="none") == {"swc/nld"}
    assert folders(root, "eng1") == set()
    shutil.rmtree(root / "voxpopuli" / "eng")
    assert folders(root, "eng1") == {"voxpopuli/eng"}  # eng1's test set has it, too
    shutil.rmtree(root / "voxpopuli")
    assert folders(root, "eng1") == set()  # which `missing` tells


def test_each_utterance_of_the_reserved_languages_has_a_dataset():
    for language, names in ml_superb._few_shot().items():
        for name in names:
            assert ml_superb._dataset(name.split(f"_{language}_")[0]) in ml_superb.DATASETS


def test_an_unknown_track_names_the_nearest(load, root):
    with pytest.raises(StudyError, match="track: unknown 'eng4'; did you mean 'eng"):
        load(**keys(root, "eng4"))


# ---- Mandarin and Japanese by characters, as make paper-smoke trains them


@pytest.mark.parametrize(
    ("track", "characters"), [("cmn", "你好世界我们回家"), ("jpn", "こんにちはせかうります")]
)
def test_characters_of_other_scripts_are_symbols(written, staged, track, characters):
    corpus = keys(written / "ml_superb", track, phones=False)
    prepared, task = staged(corpus, kind="mono_asr", column="text", metric="cer")
    assert set(characters) <= set(task.symbols)
    name = task.ids("train")[0]
    text = prepared.table.set_index("id").at[name, "text"]
    spelt = [task.symbols[place] for place in task.target(name)]
    assert "".join(spelt).replace("<space>", " ").replace("|", " ").strip().startswith(text[:2])


def test_espeak_says_the_sentences_of_every_script(layouts):
    """In Japanese it can read kana alone, and says of others that they are Chinese letters."""
    from ssl_bench.speech.espeak import synthesizer
    from ssl_bench.speech.recipe import speaker_voice

    said = {}
    for language, texts in layouts.SENTENCES.items():
        voice = speaker_voice(0, 1, layouts.ESPEAK[language])
        said[language] = [synthesizer().speak(text, voice).phones for text in texts]
        assert all(layouts.espeak(text, 1, language).any() for text in texts)
    assert said["jpn"][0][:6] == ("k", "o̞", "n", "n", "i", "tɕ")
    assert said["cmn"][1][:2] == ("w", "o")
    assert not any("z" in phones and "l" in phones for phones in said["jpn"])


# ---- phones of Mandarin and Japanese


@pytest.mark.parametrize("track", ["cmn", "jpn"])
def test_phones_need_a_package_and_say_which(written, load, track, monkeypatch):
    monkeypatch.setitem(sys.modules, _phonetic.PACKAGES[track], None)
    line = load(**keys(written / "ml_superb", track)).error()
    package = _phonetic.PACKAGES[track]
    assert f"{track} is scored by phones, which need the package {package}" in line
    assert len(load(**keys(written / "ml_superb", track, phones=False)).table())


def test_mandarin_phones_are_initials_and_finals_with_tones(written, load):
    pytest.importorskip("pypinyin")
    convert = _phonetic.phonetic("cmn")
    assert convert("你好世界") == ["n", "i3", "h", "ao3", "sh", "i4", "j", "ie4"]
    assert convert("二十") == ["er4", "sh", "i2"]
    assert convert("女") == ["n"]  # its final is written with v: ESPnet drops it
    assert convert("，好 12") == ["，", "h", "ao3"]
    frame = load(**keys(written / "ml_superb", "cmn")).table()
    assert frame["phones"].str.contains("h ao3").any()


def test_a_dictionary_that_cannot_be_fetched_is_told(monkeypatch):
    def g2p(text, kana):
        raise URLError("no network")

    monkeypatch.setitem(sys.modules, "pyopenjtalk", SimpleNamespace(g2p=g2p))
    with pytest.raises(StudyError, match=r"cannot get its dictionary: .*no network"):
        _phonetic.phonetic("jpn")


def test_japanese_phones_are_open_jtalks(written, load):
    pytest.importorskip("pyopenjtalk")
    try:
        convert = _phonetic.phonetic("jpn")
    except StudyError as error:
        pytest.skip(str(error))
    assert convert("こんにちは") == ["k", "o", "N", "n", "i", "ch", "i", "w", "a"]
    frame = load(**keys(written / "ml_superb", "jpn")).table()
    assert frame["phones"].str.startswith("k o N").any()
