"""Small corpora in the published layouts: real file names, real label files, generated sound.

One function a layout; each writes below a folder and returns it. Sizes are arguments. Nothing in it
is of the published corpora but their form. From the command line, all of them:

    python tests/published_layouts.py FOLDER [--espeak]
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, count, cycle, islice
from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000
Speak = Callable[[str, int, str], np.ndarray]
"""Text, number of the speaker and ISO 639-3 language → float32 samples (n,) at 16 kHz."""

WORDS = {
    "HELLO": "HH AH0 L OW1",
    "WORLD": "W ER1 L D",
    "THE": "DH AH0",
    "SHIP": "SH IH1 P",
    "SAW": "S AO1",
    "NO": "N OW1",
    "LIGHT": "L AY1 T",
    "DON'T": "D OW1 N T",
    "GO": "G OW1",
    "HOME": "HH OW1 M",
    "MY": "M AY1",
    "BROTHER": "B R AH1 DH ER0",
}
"""Words and their ARPAbet phones."""
SENTENCES = {
    "cmn": ("你好，世界。", "我们回家", "今天天气很好！"),
    # In kana, which is what espeak reads; of other characters it says that they are Chinese.
    "jpn": ("こんにちは、せかい。", "うちに かえります", "きょうは いい てんきです。"),
    "rus": ("Привет, мир!", "мы идём домой", "сегодня тепло"),
}
ESPEAK = {
    **{"fra": "fr", "deu": "de", "rus": "ru", "cmn": "cmn", "swe": "sv", "nld": "nl"},
    **{"jpn": "ja", "swa": "sw", "dan": "da", "tsn": "tn"},
}
"""espeak's voices of languages, by their ISO 639-3 names."""
LATIN = ("Hello, the light is on!", "my brother's ship", "no one saw it go", "we are at home.")
LANGUAGES = {
    "ALFFA": ("swa",),
    "LAD": ("nld",),
    "M-AILABS": ("rus",),
    "NST": ("swe", "dan"),
    "commonvoice": ("jpn", "eng", "dan"),
    "fleurs": ("cmn", "fra"),
    "googlei18n_asr": ("sun",),
    "googlei18n_tts": ("tsn",),
    "mls": ("eng",),
    "nchlt": ("eng",),
    "swc": ("deu", "eng"),
    "voxforge": ("fra",),
    "mexico-el": ("xty",),
    "voxpopuli": ("eng", "fra", "deu"),
}
"""ML-SUPERB: datasets and some of their languages, all that the monolingual sets need."""
FEW_SHOT = {
    ("NST", "dan"): ("NST_dan_000007", "NST_dan_000072"),
    ("commonvoice", "dan"): ("cv_dan_000158",),
    ("googlei18n_asr", "sun"): ("googlei18n-asr_sun_000001",),
    ("googlei18n_tts", "tsn"): ("googlei18n-tts_tsn_000026",),
}
"""Published training utterances of reserved languages."""
EMOTIONS = ("neu", "hap", "exc", "ang", "sad", "fru", "xxx")
COMMANDS = (
    ("turn on the lights in the kitchen", "activate", "lights", "kitchen"),
    ("turn off the music", "deactivate", "music", "none"),
    ("get my shoes", "bring", "shoes", "none"),
    ("make it warmer in the bedroom", "increase", "heat", "bedroom"),
)
REQUESTS = (
    ("ADD A TUNE TO MY PLAYLIST", "O O music_item O playlist_owner O", "AddToPlaylist"),
    ("PLAY ROCK & ROLL , PLEASE", "O genre genre genre O O", "PlayMusic"),
    ("BOOK A TABLE FOR TWO", "O O O O party_size_number", "BookRestaurant"),
)
KEYWORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")


def tones(text: str, speaker: int, language: str = "eng") -> np.ndarray:
    """Sing a text: 60 ms a character, its pitch by the character, its timbre by the speaker."""
    length = int(0.06 * RATE)
    time = np.arange(length) / RATE
    pitch = 110 * 1.06 ** (speaker % 24)
    notes = [pitch * 1.03 ** (ord(character) % 60) for character in text.lower()]
    made = [np.sin(2 * np.pi * f * time) + 0.4 * np.sin(2 * np.pi * pitch * time) for f in notes]
    fade = np.minimum(1, np.minimum(np.arange(length), np.arange(length)[::-1]) / 80)
    return np.concatenate([0.2 * fade * note for note in made]).astype(np.float32)


def espeak(text: str, speaker: int, language: str = "eng") -> np.ndarray:
    """Say a text with espeak-ng; languages that it has no voice for are read as English."""
    from ssl_bench.speech.espeak import synthesizer
    from ssl_bench.speech.recipe import speaker_voice

    voice = speaker_voice(0, speaker, ESPEAK.get(language, "en-us"))
    return synthesizer().speak(text, voice).samples


def write(path: Path, samples: np.ndarray, seconds: float = 0.0) -> Path:
    """Write 16-bit audio, in the format that the name says; repeat it to last ``seconds``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    times = max(1, int(np.ceil(seconds * RATE / len(samples))))
    tiled = np.tile(samples, times)
    soundfile.write(path, tiled[: int(seconds * RATE)] if seconds else tiled, RATE, "PCM_16")
    return path


def lines(path: Path, listed: Sequence[str]) -> Path:
    """Write a label file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in listed), encoding="utf-8")
    return path


def librispeech(
    root: Path,
    utterances: Mapping[str, int] | None = None,
    speakers: int = 2,
    speak: Speak = tones,
) -> Path:
    """Write ``LibriSpeech``: so many utterances of each part, by its own speakers."""
    utterances = utterances or {"train-clean-100": 12, "dev-clean": 4, "test-clean": 4}
    words, first = cycle(WORDS), count(100)
    for part, number in utterances.items():
        names = [next(first) for _ in range(speakers)]
        said: dict[int, list[str]] = {name: [] for name in names}
        for i in range(number):
            reader = names[i % speakers]
            chapter = root / part / str(reader) / str(reader + 1000)
            text = " ".join(islice(words, 3 + i % 3))
            name = f"{reader}-{reader + 1000}-{len(said[reader]):04}"
            write(chapter / f"{name}.flac", speak(text.lower(), reader, "eng"))
            said[reader].append(f"{name} {text}")
        for reader, listed in said.items():
            name = f"{reader}-{reader + 1000}.trans.txt"
            lines(root / part / str(reader) / str(reader + 1000) / name, listed)
    return root


def lexicons(root: Path) -> list[Path]:
    """Write the two lexicons of SUPERB's PR; the second has a word's other pronunciation, too."""
    entries = [f"{word}\t{phones}" for word, phones in WORDS.items()]
    return [
        lines(root / "librispeech-lexicon-200k-g2p.txt", entries[:-1]),
        lines(root / "librispeech-lexicon-allothers-g2p.txt", [entries[-1], "THE\tDH IY0"]),
    ]


def iemocap(root: Path, dialogs: int = 2, utterances: int = 14, speak: Speak = tones) -> Path:
    """Write five sessions; the utterances of a dialog take the seven emotions in turn."""
    for session in range(1, 6):
        folder = root / f"Session{session}"
        for number in range(1, dialogs + 1):
            gender = "FM"[number % 2]
            dialog = f"Ses0{session}{gender}_impro{number:02}"
            listed = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
            for i in range(utterances):
                name = f"{dialog}_{'FM'[i % 2]}{i // 2:03}"
                emotion = EMOTIONS[i % len(EMOTIONS)]
                sound = speak(f"{emotion} {LATIN[i % len(LATIN)]}", 2 * session + i % 2, "eng")
                write(folder / "sentences" / "wav" / dialog / f"{name}.wav", sound)
                times, activation = f"[{i:.4f} - {i + 1:.4f}]", "[2.5000, 2.5000, 2.5000]"
                listed += [f"{times}\t{name}\t{emotion}\t{activation}", "C-E2:\tNeutral;\t()", ""]
            lines(folder / "dialog" / "EmoEvaluation" / f"{dialog}.txt", listed)
    return root


def fluent_speech_commands(
    root: Path, utterances: Mapping[str, int] | None = None, speak: Speak = tones
) -> Path:
    """Write wavs and the three lists; each list has speakers of its own."""
    utterances = utterances or {"train": 12, "valid": 4, "test": 4}
    for place, (name, number) in enumerate(utterances.items()):
        rows = [",path,speakerId,transcription,action,object,location"]
        for i in range(number):
            text, *slots = COMMANDS[i % len(COMMANDS)]
            speaker = f"speaker{name}{i % 2}"
            path = f"wavs/speakers/{speaker}/{name}-{i:04}.wav"
            write(root / path, speak(text, 2 * place + i % 2, "eng"))
            rows.append(f"{i},{path},{speaker},{text.capitalize()},{','.join(slots)}")
        lines(root / "data" / f"{name}_data.csv", rows)
    return root


def voxceleb1(
    root: Path,
    dev_speakers: int = 4,
    test_speakers: int = 2,
    clips: int = 5,
    seconds: float = 2.2,
    speak: Speak = tones,
) -> Path:
    """Write the trees of dev and test, ``veri_test_class.txt`` and ``voxceleb1_test_v2.txt``.

    Every clip is a video of its own; the first of each dev speaker lasts 1.5 s. The classes give a
    speaker's second last clip to dev and its last to test.
    """
    classes, in_test = [], []
    ids = {"dev": range(10001, 10001 + dev_speakers), "test": range(10270, 10270 + test_speakers)}
    for tree, numbers in ids.items():
        for number in numbers:
            for clip in range(clips):
                name = f"id{number}/video{clip:06}/00001.wav"
                length = 1.5 if tree == "dev" and clip == 0 else seconds
                sound = speak(LATIN[clip % len(LATIN)], number, "eng")
                write(root / tree / "wav" / name, sound, length)
                split = {clips - 2: 2, clips - 1: 3}.get(clip, 1)
                classes.append(f"{split} {name}")
                if tree == "test":
                    in_test.append(name)
    lines(root / "veri_test_class.txt", classes)
    trials = [f"{int(a[:7] == b[:7])} {a} {b}" for a, b in combinations(in_test, 2)]
    lines(root / "voxceleb1_test_v2.txt", trials)
    return root


def ml_superb(
    root: Path,
    languages: Mapping[str, Sequence[str]] = LANGUAGES,
    train: int = 4,
    dev: int = 2,
    test: int = 2,
    speak: Speak = tones,
) -> Path:
    """Write datasets by language; ``train`` utterances are in the 10 min list, twice that in 1 h's.

    Reserved languages have their published training utterances besides.
    """
    for dataset, isos in languages.items():
        for language in isos:
            folder = root / dataset / language
            prefix = {"commonvoice": "cv"}.get(dataset, dataset.replace("_", "-"))
            names = _names(f"{prefix}_{language}")
            published = list(FEW_SHOT.get((dataset, language), ()))
            short = [*published, *islice(names, train)]
            lists = {
                "transcript_10min_train.txt": short,
                "transcript_1h_train.txt": [*short, *islice(names, train)],
                "transcript_10min_dev.txt": list(islice(names, dev)),
                "transcript_10min_test.txt": list(islice(names, test)),
            }
            texts = SENTENCES.get(language, LATIN)
            for file, listed in lists.items():
                rows = []
                for name in listed:
                    number = int(name.rpartition("_")[2])
                    text = texts[number % len(texts)]
                    path = folder / "wav" / f"{name}.wav"
                    if not path.is_file():
                        write(path, speak(text, number, language))
                    rows.append(f"{name} {language} {text}")
                lines(folder / file, rows)
    return root


def _names(stem: str) -> Iterator[str]:
    return (f"{stem}_{number:06}" for number in count(200))


def speech_commands(
    root: Path, speakers: int = 12, noise_seconds: float = 6.0, speak: Speak = tones
) -> tuple[Path, Path]:
    """Write ``speech_commands_v0.01`` and its test set; return both folders."""
    train, test = root / "speech_commands_v0.01", root / "speech_commands_test_set_v0.01"
    for word in (*KEYWORDS, "bed"):
        for speaker in range(speakers):
            name = f"{speaker * 2654435761 % 2**32:08x}_nohash_0.wav"
            write(train / word / name, speak(word, speaker, "eng"), 1.0)
    noise = 0.05 * np.random.default_rng(0).standard_normal(int(noise_seconds * RATE))
    write(train / "_background_noise_" / "white_noise.wav", noise.astype(np.float32))
    for word in (*KEYWORDS, "_unknown_"):
        sound = speak(word.strip("_"), 99, "eng")
        write(test / word / "c0ffee00_nohash_0.wav", sound, 1.0)
    write(test / "_silence_" / "00000000_nohash_0.wav", noise[:RATE].astype(np.float32))
    return train, test


def snips(root: Path, utterances: Mapping[str, int] | None = None, speak: Speak = tones) -> Path:
    """Write ``SNIPS``: so many utterances of two speakers of each split, and of one who is not."""
    utterances = utterances or {"train": 4, "valid": 2, "test": 2}
    speakers = {
        "train": ("Ivy", "Salli", "Amy"),
        "valid": ("Amy", "Nicole", "Ivy"),
        "test": ("Brian", "Emma", "Ivy"),
    }
    rows, slots = [], set()
    for split, number in utterances.items():
        for place, speaker in enumerate(speakers[split]):
            for i in range(number):
                words, tags, intent = REQUESTS[i % len(REQUESTS)]
                name = f"{speaker}-snips-{split}-{i}"
                write(root / split / f"{name}.wav", speak(words.lower(), place, "eng"))
                rows.append(f"{name} BOS {words} EOS\tO {tags} {intent}")
                slots |= set(tags.split()) - {"O"}
    lines(root / "all.iob.snips.txt", rows)
    lines(root / "slots.txt", ["O", *sorted(slots)])
    return root


def everything(root: Path, speak: Speak = tones) -> None:
    """Write every corpus, each in a folder named after its kind."""
    librispeech(root / "librispeech" / "LibriSpeech", speak=speak)
    lexicons(root / "librispeech")
    iemocap(root / "iemocap", speak=speak)
    fluent_speech_commands(root / "fluent_speech_commands", speak=speak)
    voxceleb1(root / "voxceleb1", speak=speak)
    ml_superb(root / "ml_superb", speak=speak)
    speech_commands(root / "speech_commands", speak=speak)
    snips(root / "snips", speak=speak)


def entries(root: Path) -> dict[str, dict[str, object]]:
    """Return entries of a study's ``corpora`` on what :func:`everything` has written."""
    lexicon = "librispeech-lexicon-{}-g2p.txt"
    voxceleb1 = {"kind": "voxceleb1", "root": str(root / "voxceleb1")}
    multilingual = {"track": "multilingual", "train": "10min"}
    commands = root / "speech_commands" / "speech_commands_v0.01"
    return {
        "librispeech": {
            "kind": "librispeech",
            "root": str(root / "librispeech" / "LibriSpeech"),
            "lexicons": [
                str(root / "librispeech" / lexicon.format(name)) for name in ("200k", "allothers")
            ],
        },
        "iemocap": {"kind": "iemocap", "root": str(root / "iemocap"), "fold": 1},
        "fluent_speech_commands": {
            "kind": "fluent_speech_commands",
            "root": str(root / "fluent_speech_commands"),
        },
        "identification": {**voxceleb1, "protocol": "identification"},
        "verification": {**voxceleb1, "protocol": "verification"},
        "ml_superb": {"kind": "ml_superb", "root": str(root / "ml_superb"), **multilingual},
        "speech_commands": {
            "kind": "speech_commands",
            "root": str(commands),
            "test_root": str(commands.with_name("speech_commands_test_set_v0.01")),
        },
        "snips": {"kind": "snips", "root": str(root / "snips")},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write small corpora in the published layouts.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--espeak", action="store_true", help="speech in place of tones")
    options = parser.parse_args()
    everything(options.folder, espeak if options.espeak else tones)
