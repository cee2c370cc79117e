"""Speech recognition: SUPERB's BiLSTM CTC head, word error rate.

SUPERB ASR on LibriSpeech: Adam 1e-4, effective batch 16, clip 1, 200,000 steps; greedy decoding
without a language model. s3prl (``downstream/asr``) writes spaces as ``|``, ends each text with
one and with ``<eos>``, and drops both before it counts errors. Its dictionary has four symbols
besides: ``<s>``, which is the blank, ``<eos>``, ``<pad>`` and ``<unk>``, which no text uses. Its
SpecAugment is applied to the interface's output, here without the time warp (see
``heads/specaugment.py``).
"""

from typing import ClassVar

from pydantic import Field
from torch import nn

from ssl_bench.heads.bilstm import BiLSTMHead
from ssl_bench.heads.specaugment import SpecAugmentConfig
from ssl_bench.tasks._characters import CharacterConfig, CharacterTask


class Config(CharacterConfig):
    """Keys of speech recognition; ``specaugment: null`` turns masking off."""

    hidden: int = Field(1024, ge=1)
    layers: int = Field(2, ge=1)
    dropout: float = Field(0.2, ge=0, lt=1)
    specaugment: SpecAugmentConfig | None = SpecAugmentConfig(
        feature_masks=4, feature_width=50, time_masks=2, time_width=40
    )


class Task(CharacterTask):
    """Speech recognition."""

    stackable: ClassVar[bool] = False
    blank: ClassVar[str] = "<s>"
    spare: ClassVar[tuple[str, ...]] = ("<pad>", "<unk>")
    word_end = True
    eos = True

    def head(self, dim: int) -> nn.Module:
        config = self.config
        return BiLSTMHead(
            dim,
            len(self.symbols),
            config.hidden,
            config.layers,
            config.dropout,
            config.specaugment,
        )
