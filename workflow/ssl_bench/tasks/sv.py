"""Speaker verification: SUPERB's x-vector head, AM-Softmax, equal error rate on unseen speakers.

SUPERB ASV on VoxCeleb1: AdamW 1e-4 with torch's weight decay, batch 10 × 5 accumulated, clip 1000,
200,000 steps, random crops of 8 s of the training utterances longer than 2 s, trials of
``voxceleb1_test_v2.txt``. s3prl saves every 10,000 steps and takes the best on test; here dev
chooses, and ``select`` says how.
"""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ssl_bench import metrics
from ssl_bench.heads.xvector import XVectorHead
from ssl_bench.tasks import _trials
from ssl_bench.tasks._labels import LabelledTask
from ssl_bench.tasks._published import superb
from ssl_bench.tasks.base import TaskConfig

RECIPE = superb(
    1e-4,
    steps=200_000,
    every=10_000,
    batch_utterances=50,
    neighbours=10,
    last_batch="smaller",
    padding="group",
    crop_seconds=8.0,
    crop="waveform",
    min_seconds=2.0,
    optimizer="adamw",
    weight_decay=0.01,
    clip=1000.0,
)
CHUNK = 65_536


class Config(TaskConfig):
    """Keys of speaker verification.

    ``trials`` draws that many pairs of each of dev and test, half of them of the same speaker;
    without it all pairs are scored. ``trials_file`` gives the trials of the splits whose
    utterances it names.
    """

    column: str = "speaker"
    hidden: int = Field(512, ge=1)
    pooled: int = Field(1500, ge=1)
    scale: float = Field(30.0, gt=0)
    margin: float = Field(0.4, ge=0)
    trials: int | None = Field(None, ge=2, multiple_of=2)
    trials_seed: int = Field(0, ge=0)
    trials_file: str | None = None


class Task(LabelledTask):
    """Speaker verification."""

    metric: ClassVar[str] = "eer"
    higher_is_better: ClassVar[bool] = False
    has_dev_loss: ClassVar[bool] = False  # speakers of dev are not those of train

    def __init__(self, config: Any, table: pd.DataFrame) -> None:
        super().__init__(config, table)
        self.labels_by_id = self.labels(config.column)
        splits = self.rows["split"]
        train = self.labels_by_id[splits == "train"]
        self.train_speakers = sorted(train.unique())
        if len(self.train_speakers) < 2:
            raise self.error(
                f"the train split has one speaker only, {self.train_speakers[0]!r}; "
                "expected several"
            )
        seen = self.labels_by_id[(splits != "train") & self.labels_by_id.isin(self.train_speakers)]
        if len(seen):
            raise self.error(
                f"expected other speakers in dev and test than in train, found {seen.nunique()} of "
                f"train: {seen.iloc[0]!r} in {self.some(seen.index)}"
            )
        index = {speaker: i for i, speaker in enumerate(self.train_speakers)}
        self.targets = {name: torch.tensor([index[who]]) for name, who in train.items()}
        self.trials = self._make_trials()

    def _make_trials(self) -> dict[str, pd.DataFrame]:
        config, trials = self.config, {}
        if config.trials_file is not None:
            rows = self.rows.assign(speaker=self.labels_by_id)
            read = _trials.read_trials(Path(config.trials_file), rows)
            listed = dict(iter(read.groupby("split")))
        else:
            listed = {}
        for split in ("dev", "test"):
            speakers = self.labels_by_id[self.rows["split"] == split]
            if split in listed:
                frame = listed[split].drop(columns="split")
            elif config.trials is not None:
                try:
                    frame = _trials.balanced_sample(speakers, config.trials, config.trials_seed)
                except ValueError as error:
                    raise self.error(f"{split}: {error}") from None
            elif len(speakers) * (len(speakers) - 1) // 2 > _trials.MOST:
                raise self.error(
                    f"{len(speakers)} utterances in {split!r} make more than {_trials.MOST:,} "
                    "pairs; draw some with 'trials'"
                )
            else:
                frame = _trials.all_pairs(speakers)
            if frame["label"].nunique() != 2:
                raise self.error(
                    f"{split!r} needs trials of the same and of different speakers; it has "
                    f"{len(speakers)} utterances of {speakers.nunique()} speakers"
                )
            who = self.labels_by_id
            trials[split] = frame.assign(
                id=frame["a"] + "|" + frame["b"],
                speaker=who[frame["a"]].to_numpy() + "|" + who[frame["b"]].to_numpy(),
            )
        return trials

    def ids(self, split: str) -> list[str]:
        utterances = super().ids(split)
        if split == "train":
            return utterances
        used = set(self.trials[split]["a"]) | set(self.trials[split]["b"])
        return [utterance for utterance in utterances if utterance in used]

    def head(self, dim: int) -> nn.Module:
        speakers = len(self.train_speakers)
        return XVectorHead(dim, speakers, self.config.hidden, self.config.pooled)

    def loss(
        self, outputs: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor
    ) -> Tensor:
        """AM-Softmax: cross-entropy of scale · (cosine - margin of the true speaker)."""
        margin = self.config.margin * F.one_hot(targets[:, 0], outputs.shape[-1])
        logits = self.config.scale * (outputs.float() - margin)
        return F.cross_entropy(logits, targets[:, 0], reduction="none")

    def predict(self, outputs: Tensor, lengths: Tensor) -> list[Any]:
        """Return N embeddings of unit length."""
        return list(outputs.detach().float().cpu().numpy())

    def score(self, split: str, ids: list[str], predictions: list[Any]) -> pd.DataFrame:
        """Score the trials of dev or test; ``ids`` are all of the split's."""
        trials, index = self.trials[split], pd.Index(ids)
        embeddings = np.stack(predictions)
        a, b = index.get_indexer(trials["a"]), index.get_indexer(trials["b"])
        if min(a.min(), b.min()) < 0:
            raise ValueError(f"trials of {split!r} need embeddings of all its utterances")
        scores = np.empty(len(trials), dtype=np.float32)
        for start in range(0, len(trials), CHUNK):
            part = slice(start, start + CHUNK)
            scores[part] = (embeddings[a[part]] * embeddings[b[part]]).sum(axis=1)
        return trials[["id", "speaker", "label"]].assign(score=scores)

    def value(self, scores: pd.DataFrame) -> float:
        return metrics.equal_error_rate(scores["label"], scores["score"])
