"""Read a lhotse CutSet as a corpus: one supervision a cut, every other label a string."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl_bench.errors import StudyError, suggest

FIELDS = ("text", "speaker", "language", "gender")
SAFE = ("file", "memory")
"""Where samples may come from. lhotse would also run a command and fetch an address."""


def read(path: Path, columns: Mapping[str, str], root: str | None, language: str | None) -> Any:
    """Return the CutSet of one split.

    Args:
        path: a file that ``CutSet.to_file`` wrote.
        columns: your name of a label → the name that tasks know.
        root: what relative paths of recordings are relative to; None: the file's folder.
        language: the language of cuts that name none.

    Raises:
        StudyError: no such file, not a CutSet, no cut, a cut with no recording, one that is not a
            file, missing files or another number of supervisions than one, no label to rename.
    """
    from lhotse import CutSet
    from lhotse.serialization import NotALhotseManifest

    if not path.is_file():
        raise StudyError(f"{path}: no such CutSet file; expected a lhotse CutSet")
    try:
        cuts = list(CutSet.from_file(path))
    except (NotALhotseManifest, ValueError, KeyError, TypeError, OSError, AssertionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise StudyError(
            f"{path}: expected a lhotse CutSet, found what lhotse cannot read as one: {reason}"
        ) from None
    if not cuts:
        raise StudyError(f"{path}: found no cut, expected one for each utterance")
    folder = Path(root) if root is not None else path.parent
    seen: set[str] = set()
    made = []
    for cut in cuts:
        made.append(_one(cut, path, columns, language, seen).with_recording_path_prefix(folder))
    for name in columns:
        if name not in seen:
            raise StudyError(f"{path}: columns: no cut has a label {name!r}; {suggest(name, seen)}")
    _check_files(made, path)
    return CutSet.from_cuts(made)


def _one(
    cut: Any, path: Path, columns: Mapping[str, str], language: str | None, seen: set[str]
) -> Any:
    if not cut.has_recording:
        raise StudyError(f"{path}: cut {cut.id!r}: found no recording, expected one")
    for source in _sources(cut):
        if source.type not in SAFE:
            raise StudyError(
                f"{path}: cut {cut.id!r}: its recording is a {source.type}, which is not run or "
                f"fetched; expected a file: {source.source!r}"
            )
    if len(cut.supervisions) != 1:
        raise StudyError(
            f"{path}: cut {cut.id!r} has {len(cut.supervisions)} supervisions, expected one; "
            "lhotse's CutSet.trim_to_supervisions(keep_overlapping=False) makes one cut of each"
        )
    (supervision,) = cut.supervisions
    labels = {field: getattr(supervision, field) for field in FIELDS}
    labels.update(supervision.custom or {})
    labels = {name: _text(value) for name, value in labels.items() if value not in (None, "")}
    seen.update(labels)
    labels = {columns.get(name, name): value for name, value in labels.items()}

    supervision.text = labels.pop("text", None)
    supervision.speaker = labels.pop("speaker", None)
    supervision.language = labels.pop("language", language)
    supervision.custom = labels
    for name, value in (("id", cut.id), ("speaker", supervision.speaker or "")):
        if "|" in value:
            raise StudyError(
                f"{path}: cut {cut.id!r}: {name}: expected no '|', found one, which joins the two "
                "sides of a trial"
            )
    return cut


def _sources(cut: Any) -> list[Any]:
    """List what the samples of a cut, or of each track of a mixed one, are read from."""
    tracks = [track.cut for track in getattr(cut, "tracks", ())] or [cut]
    return [source for one in tracks if one.has_recording for source in one.recording.sources]


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _check_files(cuts: list[Any], path: Path) -> None:
    missing = [
        f"cut {cut.id}: {source.source}"
        for cut in cuts
        for source in _sources(cut)
        if source.type == "file" and not Path(source.source).is_file()
    ]
    if missing:
        more = "; …" if len(missing) > 3 else ""
        first = "; ".join(missing[:3])
        raise StudyError(
            f"{path}: {len(missing)} recordings do not exist: {first}{more}; expected files (root: "
            "what their paths are relative to)"
        )
