"""What a corpus kind must offer, and the table that tasks read.

A kind is a module with

* ``Config``: a :class:`CorpusConfig` with the keys of its entry in a study;
* ``prepare(config, folder, workers) -> dict[str, CutSet]``: one lhotse CutSet per split (``train``,
  ``dev``, ``test``), recordings on disk. Anything it writes goes below ``folder``; it may use
  ``workers`` processes;
* ``inputs(config) -> list[str]``, if it reads files: those whose change makes the corpus anew.

and, where it makes sense,

* ``missing(config) -> list[str]``: the files that the labels name and that are not there. It runs
  before any job starts, so it reads labels and lists folders, and opens no recording;
* ``published(config) -> dict[str, int]``: utterances of each split in the published corpus;
* ``process(config, split, samples) -> np.ndarray | None``: what the recipe does to a recording
  (mono, 16 kHz, float32) before anything else sees it; None leaves the utterance out;
* ``ARCHIVES: dict[str, Archive]``: what ``python -m ssl_bench download`` may fetch, and
  ``DEFAULT_ARCHIVES``: the parts that it fetches unless told otherwise.

Every cut has one supervision. ``text``, ``speaker`` and ``language`` are lhotse's own fields; every
other label is a string in ``supervision.custom`` (``phones``: symbols separated by spaces).
"""

from typing import Any, NamedTuple

import pandas as pd

from ssl_bench.configuration import Strict

SPLITS = ("train", "dev", "test")


class CorpusConfig(Strict):
    """Keys that every corpus entry has."""

    kind: str


class Archive(NamedTuple):
    """A tar file at its official address."""

    url: str
    digest: str
    """``md5:`` or ``sha256:`` and the published hexadecimal digits."""
    folder: str = ""
    """Where it is unpacked, below the folder that is downloaded to."""


def table(cuts: dict[str, Any]) -> pd.DataFrame:
    """Return one row per utterance of all splits.

    Columns: ``id``, ``split``, ``duration`` (seconds), ``text``, ``speaker``, ``language`` and one
    column for each custom label; a label that an utterance lacks is None.
    """
    rows = []
    for split, subset in cuts.items():
        for cut in subset:
            supervision = cut.supervisions[0]
            rows.append(
                {
                    "id": cut.id,
                    "split": split,
                    "duration": cut.duration,
                    "text": supervision.text,
                    "speaker": supervision.speaker,
                    "language": supervision.language,
                    **(supervision.custom or {}),
                }
            )
    return pd.DataFrame(rows)
