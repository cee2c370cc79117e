"""A finished study of twelve tones that bad inputs spoil, and what a row of their table says."""

import shlex
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

HERTZ = {"low": 220.0, "high": 880.0}
PHONES = {"low": "l o", "high": "h ai"}
SIZES = {"train": 6, "dev": 2, "test": 4}
HEADER = ("path", "split", "speaker", "keyword", "phones", "text")
SEEDS = [0, 1]
RATES = [1e-3, 1e-2]
SPOILT = "audio/test-1.wav"
"""A recording that rows of the table spoil; row 10 of the list."""


class Row(NamedTuple):
    """One bad input: what spoils a finished study, the command, what its one line says."""

    command: str
    """Words after ``python -m``."""
    spoil: Callable[[], None]
    """Runs in the folder of the study."""
    where: str
    """What its one line says: the file, row or key."""
    found: str
    """What was found there."""
    expected: str
    """What was expected; of an unknown name, those that are known."""
    environment: dict[str, str] = {}
    """Variables that are set besides."""


CHECK = "ssl_bench check --study study.yaml"
CORPUS = "ssl_bench corpus --study study.yaml --name tones"
UPSTREAM = "ssl_bench upstream --study study.yaml --name mini"
FEATURES = "ssl_bench features --study study.yaml --upstream mini --corpus tones"
SWEEP = "ssl_bench sweep --study study.yaml --task ks --upstream mini"
TRAIN = "ssl_bench train --study study.yaml --task ks --upstream mini"
COLLECT = "analysis collect --study study.yaml"
TABLES = "analysis tables --tables results/tiny/tables --out out --resamples 100"
REPORT = "analysis report --tables results/tiny/tables --figures results/tiny/figures --out r.html"

STAGES = (CORPUS, UPSTREAM, FEATURES, SWEEP, TRAIN, COLLECT)
LEAVES = {
    CORPUS: ("work/tiny/corpora/tones",),
    UPSTREAM: ("work/tiny/upstreams",),
    FEATURES: ("work/tiny/features",),
    SWEEP: ("results/tiny/cells",),
    TRAIN: ("results/tiny/cells/ks/mini/all/train.csv", "results/tiny/cells/ks/mini/all/mean"),
    COLLECT: ("results/tiny/tables", "results/tiny/provenance.json"),
}
"""What each stage leaves; a row starts without what its own stage and later ones leave."""


def study() -> dict[str, Any]:
    """Return the study that is spoilt."""
    return {
        "name": "tiny",
        "device": "cpu",
        "cache": "disk",
        "seeds": list(SEEDS),
        "job": "stream",
        "corpora": {"tones": {"kind": "manifest", "path": "list.tsv"}},
        "upstreams": {"mini": {"kind": "transformers", "model": "encoder"}},
        "tasks": {"ks": {"kind": "ks", "corpus": "tones", "hidden": 8}},
        "interfaces": {"mean": {}},
        "training": {
            "recipe": "none",
            "steps": 2,
            "batch_seconds": 4,
            "evaluations": 1,
            "buckets": 1,
        },
        "sweep": {"learning_rates": list(RATES)},
    }


def rows() -> list[dict[str, str]]:
    """Return the rows of the list; the header is its row 1."""
    made = []
    for split, count in SIZES.items():
        for number in range(count):
            word = list(HERTZ)[number % 2]
            made.append(
                {
                    "path": f"audio/{split}-{number}.wav",
                    "split": split,
                    "speaker": f"{split}-{number // 2}",
                    "keyword": word,
                    "phones": PHONES[word],
                    "text": word.upper(),
                }
            )
    return made


def write_list(listed: list[dict[str, str]], path: str = "list.tsv") -> None:
    """Write a TSV; its columns are those of the first row."""
    lines = [tuple(listed[0]), *(tuple(row.values()) for row in listed)]
    Path(path).write_text("\n".join("\t".join(line) for line in lines) + "\n", "utf-8")


def write_wave(path: str | Path, samples: np.ndarray, rate: int = 16_000) -> None:
    """Write (samples,) or (samples, channels) in [-1, 1] as 16-bit PCM."""
    pcm = (np.asarray(samples) * 32767).round().astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if pcm.ndim == 1 else pcm.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm.tobytes())


def tone(seconds: float, rate: int = 16_000, hertz: float = 220.0) -> np.ndarray:
    """Return a sine, (samples,)."""
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def build() -> None:
    """Write list, recordings and study into the working directory."""
    Path("audio").mkdir()
    for number, row in enumerate(rows()):
        pitch = HERTZ[row["keyword"]] * (1 + number / 100)
        write_wave(row["path"], tone(0.3 + 0.02 * number, hertz=pitch))
    write_list(rows())
    Path("study.yaml").write_text(yaml.safe_dump(study(), sort_keys=False))


def words(command: str) -> tuple[str, list[str]]:
    """Split a command into its package and the package's arguments."""
    package, *arguments = shlex.split(command)
    return package, arguments


# ---- what spoils a study


def nothing() -> None:
    """Leave all as it is."""


def keys(**changed: Any) -> Callable[[], None]:
    """Set dotted keys (``__`` for the dot) of the study; ``...`` deletes one."""

    def spoil() -> None:
        raw = study()
        for dotted, value in changed.items():
            *parents, last = dotted.split("__")
            place = raw
            for name in parents:
                place = place[name]
            if value is ...:
                del place[last]
            else:
                place[last] = value
        Path("study.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))

    return spoil


def text(path: str, content: str | bytes) -> Callable[[], None]:
    """Write a file."""

    def spoil() -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())

    return spoil


def swap(path: str, old: str, new: str) -> Callable[[], None]:
    """Replace text in a file, once."""

    def spoil() -> None:
        content = Path(path).read_text("utf-8")
        assert old in content, f"{path} has no {old!r}"
        Path(path).write_text(content.replace(old, new, 1), "utf-8")

    return spoil


def gone(path: str) -> Callable[[], None]:
    """Delete a file."""
    return lambda: Path(path).unlink()


def cut(path: str, share: float = 0.5) -> Callable[[], None]:
    """Keep the first part of a file."""

    def spoil() -> None:
        content = Path(path).read_bytes()
        Path(path).write_bytes(content[: int(len(content) * share)])

    return spoil


def cell(row: int, **changed: str) -> Callable[[], None]:
    """Set cells of one row of the list, numbered as its user counts."""

    def spoil() -> None:
        listed = rows()
        listed[row - 2] |= changed
        write_list(listed)

    return spoil


def column(name: str, becomes: str | None) -> Callable[[], None]:
    """Rename a column of the list, or leave it out."""

    def spoil() -> None:
        write_list(
            [
                {
                    becomes or k if k == name else k: v
                    for k, v in row.items()
                    if k != name or becomes
                }
                for row in rows()
            ]
        )

    return spoil


def samples(made: Callable[[], np.ndarray], rate: int = 16_000, subtype: str = "FLOAT") -> Any:
    """Replace one recording by samples, floats kept as they are."""

    def spoil() -> None:
        import soundfile

        soundfile.write(SPOILT, made(), rate, subtype)

    return spoil


def both(*spoils: Callable[[], None]) -> Callable[[], None]:
    """Do one after the other."""

    def spoil() -> None:
        for one in spoils:
            one()

    return spoil
