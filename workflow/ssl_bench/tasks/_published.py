"""What the published recipes of a benchmark have in common."""

from typing import Any

from ssl_bench.recipe import Recipe, Training

SUPERB_RATES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
"""SUPERB tunes the learning rate for each upstream and task, within this range, on a log scale."""

LONG = 300_000 / 16_000
"""Seconds. s3prl's PR and SF train on half of a batch whose first recording lasts longer."""


def superb(learning_rate: float, *, steps: int, every: int, **training: Any) -> Recipe:
    """Return a recipe of s3prl's: Adam, clip 1, one rate, batches at random, the best step on dev.

    Args:
        learning_rate: of the published configuration.
        steps: optimizer updates.
        every: updates between two evaluations.
        training: keys of the task's own.
    """
    adam = {"optimizer": "adam", "weight_decay": 0.0, "clip": 1.0}
    keys = {"batches": "random", "buckets": 4, **adam, **training}
    return Recipe(
        training=Training(
            steps=steps,
            evaluations=steps // every,
            select="dev_metric",
            average=1,
            warmup=0.0,
            schedule="constant",
            layer_weight_scale=1.0,
            not_finite="skip",
            **keys,
        ),
        learning_rate=learning_rate,
        learning_rates=SUPERB_RATES,
    )


def ml_superb(iterations: int) -> Recipe:
    """Return a recipe of ESPnet's ``egs2/ml_superb/asr1``.

    Adam 1e-4, weight decay 1e-6, clip 5, 30 epochs of ``iterations`` batches of 8 neighbours in the
    order of lengths, gradients of 4 of them accumulated: 32 utterances an update and a
    quarter as many updates. Utterances have as many frames as ``s3prl.nn.S3PRLUpstream`` gives
    them. The mean of the five checkpoints of lowest dev loss, one checkpoint an epoch.
    """
    epochs, accumulated = 30, 4
    return Recipe(
        training=Training(
            steps=epochs * iterations // accumulated,
            batch_utterances=8 * accumulated,
            batches="sorted",
            neighbours=8,
            last_batch="shared",
            padding="group",
            buckets=4,
            frames="ceil",
            evaluations=epochs,
            optimizer="adam",
            weight_decay=1e-6,
            clip=5.0,
            warmup=0.0,
            schedule="constant",
            layer_weight_scale=1.0,
            not_finite="skip",
            select="dev_loss",
            average=5,
        ),
        learning_rate=1e-4,
        learning_rates=(1e-4,),
    )
