"""Language identification: the class in column ``language``.

ML-SUPERB trains language identification as recognition of one token with its speech recognition
head, which is ``multi_lid``; here it is a class, with SUPERB's linear utterance head and, since no
recipe is published for that, the settings of its intent classification.
"""

from ssl_bench.tasks._classification import ClassificationConfig, ClassificationTask
from ssl_bench.tasks._published import superb

RECIPE = superb(1e-4, steps=200_000, every=5_000, batch_utterances=32)


class Config(ClassificationConfig):
    """Keys of language identification."""

    column: str = "language"


class Task(ClassificationTask):
    """Language identification."""
