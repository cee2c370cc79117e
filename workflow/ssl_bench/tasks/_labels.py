"""What all tasks share: checked labels, utterances by split, padded targets."""

from typing import Any

import pandas as pd
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ssl_bench.corpora.base import SPLITS
from ssl_bench.errors import StudyError, no_column
from ssl_bench.tasks.base import Task

COMPUTED = ("samples", "start", "crc32")
"""Columns of the table that say where a recording lies."""
SHOWN = 3
"""Offending utterances that an error line names."""


class LabelledTask(Task):
    """A task whose targets come from columns of the utterance table."""

    def __init__(self, config: Any, table: pd.DataFrame) -> None:
        self.config = config
        self.where = f"task {config.kind!r} on corpus {config.corpus!r}"
        if not table["id"].is_unique:
            twice = table["id"][table["id"].duplicated()].iloc[0]
            raise self.error(f"utterance {twice!r} occurs more than once, expected once")
        for split in SPLITS:
            if not (table["split"] == split).any():
                raise self.error(
                    f"the corpus has no utterances in its {split!r} split, expected some"
                )
        self.rows = table.set_index("id", drop=False)
        self.targets: dict[str, Tensor] = {}

    def error(self, message: str) -> StudyError:
        """Return a StudyError that names the task and its corpus."""
        return StudyError(f"{self.where}: {message}")

    def labels(self, column: str) -> pd.Series:
        """Return a column's labels by utterance id; none missing, none empty."""
        if column not in self.rows.columns:
            known = self.rows.columns.difference([*COMPUTED, "id", "split", "duration"])
            raise self.error(f"the corpus has {no_column(column, known, [column])}")
        labels = self.rows[column]
        empty = labels.isna() | (labels.astype(str).str.strip() == "")
        if empty.any():
            raise self.error(
                f"{int(empty.sum())} of {len(labels)} utterances have no {column!r}: "
                f"{self.some(labels.index[empty])}; expected one for each"
            )
        return labels.astype(str).str.strip()

    def some(self, ids: Any) -> str:
        """Name the first few of some utterances and the splits they are in."""
        named = [f"{name} ({self.rows.at[name, 'split']})" for name in list(ids)[:SHOWN]]
        return ", ".join(named) + (", …" if len(ids) > SHOWN else "")

    def speakers(self, ids: list[str]) -> list[Any]:
        """Return the speaker of each utterance, None where the corpus does not say."""
        if "speaker" not in self.rows.columns:
            return [None] * len(ids)
        return self.rows["speaker"].reindex(ids).tolist()

    def ids(self, split: str) -> list[str]:
        return self.rows.index[self.rows["split"] == split].tolist()

    def seconds(self, utterance: str) -> float:
        return float(self.rows.at[utterance, "duration"])

    def target(self, utterance: str) -> Tensor:
        return self.targets[utterance]

    def targets_for(self, utterances: list[str]) -> tuple[Tensor, Tensor]:
        """Return the targets of utterances, (N, S) padded with zeros, and their (N,)."""
        targets = [self.target(utterance) for utterance in utterances]
        lengths = Tensor([len(target) for target in targets]).long()
        return pad_sequence(targets, batch_first=True), lengths
