"""Language identification: the class in column ``language``.

ML-SUPERB trains language identification as recognition of one token with its speech recognition
head; here it is a class, with SUPERB's linear utterance head.
"""

from ssl_bench.tasks._classification import ClassificationConfig, ClassificationTask


class Config(ClassificationConfig):
    """Keys of language identification."""

    column: str = "language"


class Task(ClassificationTask):
    """Language identification."""
