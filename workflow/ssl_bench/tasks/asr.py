"""Speech recognition: SUPERB's BiLSTM CTC head, word error rate.

SUPERB ASR on LibriSpeech: Adam 1e-4, clip 1, 200,000 steps; greedy decoding without a language
model. s3prl (``downstream/asr``) splits every bucket of 32 utterances, so the batch is 16. It
writes spaces as ``|``, ends each text with one and with ``<eos>``, and drops both before it counts
errors. Its dictionary has four symbols besides: ``<s>``, which is the blank, ``<eos>``, ``<pad>``
and ``<unk>``, which no text uses. SpecAugment is applied to the interface's output.
"""

from typing import ClassVar

from torch import nn

from ssl_bench.tasks._bilstm import BiLSTMConfig, recogniser
from ssl_bench.tasks._characters import CharacterConfig, CharacterTask
from ssl_bench.tasks._published import superb

RECIPE = superb(
    1e-4,
    steps=200_000,
    every=2_000,
    batch_utterances=16,
    batches="sorted",
    last_batch="halves",
)


class Config(CharacterConfig, BiLSTMConfig):
    """Keys of speech recognition."""


class Task(CharacterTask):
    """Speech recognition."""

    stackable: ClassVar[bool] = False
    inner_width: ClassVar[str | None] = "hidden"
    blank: ClassVar[str] = "<s>"
    spare: ClassVar[tuple[str, ...]] = ("<pad>", "<unk>")
    word_end = True
    eos = True

    def head(self, dim: int) -> nn.Module:
        return recogniser(self.config, dim, len(self.symbols))
