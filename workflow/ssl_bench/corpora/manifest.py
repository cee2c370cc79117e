"""Your own recordings, listed in a TSV, CSV or JSONL, or given as lhotse CutSets.

``docs/own-recordings.md`` is the user's page. Nothing is written here: cuts point at the recordings
where they lie.
"""

from pathlib import Path
from typing import Any

from pydantic import model_validator

from ssl_bench.corpora import _cutsets
from ssl_bench.corpora._recordings import Utterance, cut, some
from ssl_bench.corpora._rows import Row, read
from ssl_bench.corpora.base import SPLITS, CorpusConfig
from ssl_bench.errors import StudyError, no_column, suggest
from ssl_bench.progress import track

FIELDS = ("text", "speaker", "language")
"""Labels that are fields of a lhotse supervision; every other one is custom."""
COMPUTED = ("duration", "samples", "start", "crc32")
"""Columns that the study computes from the recording itself."""


class Config(CorpusConfig):
    """Keys of a ``manifest`` corpus; paths are relative to the working directory."""

    path: str | None = None
    """A TSV, CSV or JSONL with a column ``path`` and a column ``split``."""
    train: str | None = None
    """A lhotse CutSet file, in place of ``path``; ``dev`` and ``test`` likewise."""
    dev: str | None = None
    test: str | None = None
    root: str | None = None
    """What relative paths of recordings are relative to; by default, the manifest's folder."""
    columns: dict[str, str] = {}
    """Your name of a column → the name that tasks know: ``{keyword: word}``."""
    splits: dict[str, str] = {}
    """Your name of a split → ``train``, ``dev`` or ``test``: ``{valid: dev}``."""
    language: str | None = None
    """The language of the recordings that name none."""

    @model_validator(mode="after")
    def _one_source(self) -> "Config":
        given = [name for name in ("path", *SPLITS) if getattr(self, name) is not None]
        if given != ["path"] and given != list(SPLITS):
            found = f"found {', '.join(given)}" if given else "found none of them"
            raise StudyError(f"manifest: expected path, or all of train, dev and test; {found}")
        for name, split in self.splits.items():
            if split not in SPLITS:
                hint = suggest(split, SPLITS)
                raise StudyError(f"manifest: splits: {name}: unknown {split!r}; {hint}")
        return self


def inputs(config: Config) -> list[str]:
    """List the files that say what the corpus is."""
    return [name for name in (config.path, config.train, config.dev, config.test) if name]


def prepare(config: Config, folder: Path, workers: int = 1) -> dict[str, Any]:
    """Return one CutSet per split, after every row and every file's header has been checked.

    Args:
        config: the corpus entry of a study.
        folder: where a corpus may write; this kind writes nothing.
        workers: processes it may use; this kind uses one.

    Raises:
        StudyError: see ``docs/own-recordings.md``; one line that names the file and the row.
    """
    return _from_table(config) if config.path else _from_cuts(config)


def missing(config: Config) -> list[str]:
    """List the recordings of a manifest that do not exist, with their rows.

    Of lhotse CutSets only the files themselves are looked for; their recordings are when they are
    read.

    Raises:
        StudyError: a list that is not there or not in order.
    """
    if config.path:
        return _missing(*_rows(config))
    return [name for name in inputs(config) if not Path(name).is_file()]


def _rows(config: Config) -> tuple[list[Row], list[Path]]:
    """Read and check the list; return its rows and the recordings that they name."""
    manifest = Path(config.path or "")
    columns, rows = read(manifest)
    rows = [Row(row.number, _rename(row.cells, config)) for row in rows]
    _check_columns(manifest, columns, rows, config)
    root = Path(config.root) if config.root is not None else manifest.parent
    for row in rows:
        _check_row(manifest, row, config)
    _check_unique(manifest, rows)
    return rows, [root / row.cells["path"] for row in rows]


def _from_table(config: Config) -> dict[str, Any]:
    from lhotse import CutSet

    manifest = Path(config.path or "")
    rows, paths = _rows(config)
    gone = _missing(rows, paths)
    if gone:
        raise StudyError(
            f"{manifest}: {some('recordings do not exist', gone)}; {_relative(config)}"
        )
    cuts: dict[str, list[Any]] = {split: [] for split in SPLITS}
    bad = []
    pairs = list(zip(rows, paths, strict=True))
    for row, path in track(pairs, f"reading headers of {manifest.name}"):
        try:
            made = cut(_utterance(row, path, config))
        except StudyError as error:
            bad.append(f"row {row.number}: {error}")
            continue
        cuts[_split(row, config)].append(made)
    if bad:
        raise StudyError(f"{manifest}: {some('recordings cannot be used', bad)}")
    return {split: CutSet.from_cuts(subset) for split, subset in cuts.items() if subset}


def _rename(cells: dict[str, str], config: Config) -> dict[str, str]:
    return {config.columns.get(name, name): cell for name, cell in cells.items()}


def _check_columns(manifest: Path, columns: list[str], rows: list[Row], config: Config) -> None:
    for name, renamed in config.columns.items():
        if name not in columns:
            raise StudyError(f"{manifest}: columns: no column {name!r}; {suggest(name, columns)}")
        if renamed in columns and renamed not in config.columns:
            raise StudyError(
                f"{manifest}: columns: {name} → {renamed}: expected a new name, found "
                f"a column {renamed!r}"
            )
    targets = list(config.columns.values())
    if len(set(targets)) < len(targets):
        raise StudyError(f"{manifest}: columns: expected names of their own, found {targets}")
    names = [config.columns.get(name, name) for name in columns]
    for name in ("path", "split"):
        if name not in names:
            raise StudyError(f"{manifest}: {no_column(name, names, ('path', 'split'))}")
    if "start" in names:
        raise StudyError(
            f"{manifest}: found a column 'start', expected none, for a row is a whole recording; "
            "parts of recordings are given as lhotse CutSets (train, dev, test)"
        )
    for name in (*FIELDS, "phones", *targets):
        if name in names and not any(row.cells.get(name) for row in rows):
            found = f"column {name!r} is empty in all {len(rows)} rows"
            raise StudyError(f"{manifest}: {found}; expected a value in one, or no such column")


def _check_row(manifest: Path, row: Row, config: Config) -> None:
    where = f"{manifest}: row {row.number}"
    for name, expected in (("path", "a recording"), ("split", "train, dev or test")):
        if not row.cells.get(name):
            raise StudyError(f"{where}: no {name}: found an empty cell, expected {expected}")
    split = row.cells["split"]
    if _split(row, config) not in SPLITS:
        raise StudyError(
            f"{where}: split {split!r}; expected train, dev or test; "
            f"name yours with splits: {{{split}: dev}}"
        )
    for name in ("id", "speaker"):
        if "|" in row.cells.get(name, ""):
            raise StudyError(
                f"{where}: {name} {row.cells[name]!r}: expected no '|', found one, "
                "which joins the two sides of a trial"
            )


def _check_unique(manifest: Path, rows: list[Row]) -> None:
    by_id: dict[str, Row] = {}
    by_path: dict[str, Row] = {}
    for row in rows:
        first = by_id.setdefault(_id(row), row)
        if first is not row:
            raise StudyError(
                f"{manifest}: id {_id(row)!r} stands in row {first.number} and in row {row.number}"
                ", expected in one"
            )
        first = by_path.setdefault(row.cells["path"], row)
        if first.cells["split"] != row.cells["split"]:
            raise StudyError(
                f"{manifest}: {row.cells['path']} is in split {first.cells['split']} "
                f"(row {first.number}) and in {row.cells['split']} (row {row.number}), "
                "expected in one"
            )


def _relative(config: Config) -> str:
    """Say what the paths of a list are relative to."""
    folder = config.root if config.root is not None else Path(config.path or "").parent
    return f"expected files, relative to {str(folder)!r}"


def _missing(rows: list[Row], paths: list[Path]) -> list[str]:
    return [
        f"row {row.number}: {path}" + (" (a folder)" if path.is_dir() else "")
        for row, path in zip(rows, paths, strict=True)
        if not path.is_file()
    ]


def _id(row: Row) -> str:
    # Names repeat between folders, so the folder belongs to the name.
    return row.cells.get("id") or Path(row.cells["path"]).with_suffix("").as_posix()


def _split(row: Row, config: Config) -> str:
    return config.splits.get(row.cells["split"], row.cells["split"])


def _utterance(row: Row, path: Path, config: Config) -> Utterance:
    """Return a row as an utterance: the whole recording."""
    labels = {
        column: cell or None
        for column, cell in row.cells.items()
        if column not in ("id", "path", "split", *COMPUTED)
    }
    return Utterance(
        _id(row),
        path,
        labels.pop("text", None),
        labels.pop("speaker", None),
        labels.pop("language", None) or config.language,
        labels,
    )


def _from_cuts(config: Config) -> dict[str, Any]:
    files = {split: Path(getattr(config, split)) for split in SPLITS}
    return {
        split: _cutsets.read(path, config.columns, config.root, config.language)
        for split, path in files.items()
    }
