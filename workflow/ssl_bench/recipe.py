"""How a task is trained: the keys of ``training``, the sweep, and what a kind of task publishes.

Each key is the first that is said: by the task's entry, by the study, by the published recipe of
the task's kind. ``recipe: none`` leaves the last out, and the defaults written here take its place.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from ssl_bench.configuration import Strict

Seed = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]
BATCH = ("batch_seconds", "batch_utterances")
"""Two ways to say one thing: whoever says one has said both."""
BATCH_SECONDS = 128.0
"""Seconds of a training batch where nobody says its size, and of a scored one."""


class Training(Strict):
    """How a head and an interface are trained.

    A batch is counted in seconds, padding included, or in utterances. s3prl and ESPnet accumulate
    the gradients of A batches of B utterances, each a mean over its B: that is the gradient of the
    mean over A · B utterances, so ``batch_utterances`` is A · B.

    ``batches`` says which utterances share a batch: those of one length bucket, any (``random``),
    neighbours in the order of audio lengths, the same in each pass (``sorted``), or in the order of
    label lengths, from each place once a pass (``sliding``). ``neighbours`` of a batch lie beside
    each other, and one batch has several such groups; without it the whole batch does. Each group
    counts as much as any other. ``last_batch`` says what becomes of the utterances that are left of
    a pass where groups are ``sorted`` or ``random`` (:func:`ssl_bench.neighbours.groups_of`), and
    of a ``sliding`` group whose first utterance lasts more than ``halve_seconds`` the first half
    alone is trained on. With ``padding: group`` a head sees the padding that a group would have by
    itself, where its published code does so in training and for a dev loss
    (:mod:`ssl_bench.heads.padding`); with ``own`` none does.

    ``crop_seconds`` trains on a random part of this length of every longer utterance, which
    ``crop`` cuts from its states or, before it is encoded, from its waveform;
    ``encode: group`` encodes a published batch together, padded as in s3prl, when it is read, and
    where utterances are scored ``scored_utterances`` of them; without these each is alone there.
    ``frames: ceil`` gives n samples ⌈n / stride⌉ frames, the encoder's last one repeated, in all
    that a cell does. ``min_seconds`` leaves out training utterances that are no longer; ``balance``
    draws utterances so that all classes are equally likely, in training and on dev. ``precision``
    is that of forward passes on a GPU, by autocast; a CPU computes in fp32. ``order: shared`` gives
    all seeds the same batches, read once for all runs: a seed then varies initialisation and
    dropout only.
    ``select`` says which of the evaluated steps are best, and the weights of the ``average`` best
    are averaged. Where a gradient is not finite, ``not_finite`` stops the run, or skips the update.
    """

    recipe: Literal["published", "none"] = "published"
    steps: int = Field(500, ge=1)
    batch_seconds: float | None = Field(None, gt=0)
    batch_utterances: int | None = Field(None, ge=1)
    batches: Literal["buckets", "random", "sorted", "sliding"] = "buckets"
    neighbours: int | None = Field(None, ge=1)
    last_batch: Literal["filled", "smaller", "halves", "shared"] = "filled"
    halve_seconds: float | None = Field(None, gt=0)
    padding: Literal["own", "group"] = "own"
    buckets: int = Field(4, ge=1)
    crop_seconds: float | None = Field(None, gt=0)
    crop: Literal["states", "waveform"] = "states"
    encode: Literal["alone", "group"] = "alone"
    scored_utterances: int | None = Field(None, ge=1)
    frames: Literal["encoder", "ceil"] = "encoder"
    min_seconds: float | None = Field(None, ge=0)
    balance: bool = False
    optimizer: Literal["adam", "adamw"] = "adam"
    weight_decay: float = Field(0.0, ge=0)
    clip: float = Field(1.0, gt=0)
    warmup: float = Field(0.0, ge=0, lt=1)
    schedule: Literal["constant", "linear"] = "constant"
    layer_weight_scale: float = Field(10.0, gt=0)
    precision: Literal["bf16", "fp32"] = "bf16"
    evaluations: int = Field(5, ge=1)
    order: Literal["own", "shared"] = "own"
    select: Literal["dev_metric", "dev_loss", "last"] = "dev_metric"
    average: int = Field(1, ge=1)
    not_finite: Literal["stop", "skip"] = "stop"

    @model_validator(mode="after")
    def _one_size(self) -> "Training":
        if self.batch_seconds is not None and self.batch_utterances is not None:
            raise ValueError("expected batch_seconds or batch_utterances, which exclude each other")
        return self

    def conflicts(self) -> Iterator[str]:
        """Yield what is wrong with the batches that the levels make together, a line each."""
        ordered = self.batches in ("sorted", "sliding")
        if self.batches != "buckets" and self.batch_utterances is None:
            found = f"batch_seconds {self.batch_seconds:g}"
            yield f"batches: {self.batches!r}: expected batch_utterances, found {found}"
        if ordered and self.balance:
            yield f"batches: with balance expected 'random' or 'buckets', found {self.batches!r}"
        if self.last_batch not in _LAST[self.batches]:
            known = " or ".join(_LAST[self.batches])
            found = f"{self.last_batch!r} with batches: {self.batches!r}"
            yield f"last_batch: expected {known}; found {found}"
        if self.halve_seconds is not None and self.batches != "sliding":
            yield f"halve_seconds: expected batches: sliding; found {self.batches!r}"
        if self.padding == "group" and self.batches == "buckets":
            yield "padding: with batches: 'buckets' expected 'own', found 'group'"
        if self.encode == "group" and self.batches == "buckets":
            yield "encode: 'group': expected batches: random, sorted or sliding; found 'buckets'"
        if self.encode == "group" and self.crop_seconds is not None and not self.crops:
            yield "encode: 'group': expected crop: waveform; found 'states'"
        if self.scored_together is not None and self.scored_padded is not None:
            with_loss = "with select: dev_loss and padding: group, which says the batches of dev,"
            yield f"scored_utterances: {with_loss} expected null, found {self.scored_together}"
        if self.neighbours is None:
            return
        if self.batches == "buckets":
            yield "neighbours: expected batches: random, sorted or sliding; found 'buckets'"
        elif (self.batch_utterances or 0) % self.neighbours:
            yield (
                f"neighbours: expected a divisor of batch_utterances {self.batch_utterances}; "
                f"found {self.neighbours}"
            )

    @property
    def beside(self) -> int:
        """Utterances of a group: those of a batch that lie beside each other."""
        apart = self.batches == "random" and self.cut is None
        return 1 if apart else self.neighbours or self.batch_utterances or 1

    @property
    def cut(self) -> int | None:
        """Utterances of a group of random ones, of which a pass has a last; None: it has none.

        With ``balance`` utterances are drawn with replacement, and no pass ends.
        """
        if self.batches != "random" or self.last_batch != "smaller" or self.balance:
            return None
        return self.neighbours or self.batch_utterances

    @property
    def groups(self) -> int:
        """Groups of a batch."""
        return (self.batch_utterances or 1) // self.beside

    @property
    def accumulated(self) -> int:
        """Published batches of a batch."""
        size = self.batch_utterances or 1
        return size // (self.neighbours or size)

    @property
    def scored_padded(self) -> int | None:
        """Utterances of a batch in which dev's padding is seen; None: it is seen in none."""
        if self.padding == "own" or self.select != "dev_loss":
            return None
        return self.neighbours or self.batch_utterances

    @property
    def scored_together(self) -> int | None:
        """Utterances that are encoded at once where they are scored; None: each is alone."""
        return self.scored_utterances if self.encode == "group" else None

    @property
    def crops(self) -> bool:
        """Whether waveforms are cropped."""
        return self.crop == "waveform" and self.crop_seconds is not None

    @property
    def encodes(self) -> bool:
        """Whether what is trained on is encoded when it is read."""
        return self.crops or self.encode == "group"

    @property
    def shapes(self) -> int:
        """How many shapes a batch may have at most: widths, for each number of utterances."""
        return self.buckets * (2 if self.last_batch in ("halves", "shared") else 1)

    @property
    def scored_seconds(self) -> float:
        """Seconds of audio in a batch that is scored, which no result depends on."""
        return self.batch_seconds or BATCH_SECONDS

    def identity(self) -> dict[str, Any]:
        """Return what determines a result.

        Keys that the first release did not have are left out where they do nothing, so that cells
        of then keep their fingerprints.
        """
        keys = self.model_dump(exclude={"recipe"})
        if not self.crops:
            del keys["crop"]
        keys["scored_utterances"] = self.scored_together
        return {k: v for k, v in keys.items() if k not in _LATER or v != _LATER[k]}


_MADE = ("neighbours", "last_batch", "halve_seconds", "padding")
"""What says more of ``batches``."""
_LAST = {
    "buckets": ("filled",),
    "random": ("filled", "smaller"),
    "sorted": ("filled", "smaller", "halves", "shared"),
    "sliding": ("filled",),
}
"""What ``last_batch`` may be for each of ``batches``."""
_LATER: dict[str, Any] = {
    "batch_utterances": None,
    "batches": "buckets",
    "neighbours": None,
    "last_batch": "filled",
    "halve_seconds": None,
    "padding": "own",
    "crop_seconds": None,
    "crop": "states",
    "encode": "alone",
    "scored_utterances": None,
    "frames": "encoder",
    "min_seconds": None,
    "balance": False,
    "precision": "bf16",
    "order": "own",
    "select": "dev_metric",
    "average": 1,
    "not_finite": "stop",
}


class Recipe(Strict):
    """What a kind of task publishes: its training, and the learning rate.

    ``learning_rates`` are what a sweep tries that names none: the range in which the published
    numbers were tuned, or ``learning_rate`` alone where they were not.
    """

    training: Training
    learning_rate: Rate
    learning_rates: tuple[Rate, ...]


class FineTune(Strict):
    """How an upstream is trained along with its interface and head.

    ``learning_rate`` is the encoder's own, whatever that of interface and head; 0 leaves it as it
    is. ``freeze_convolutions`` keeps its convolutions over samples fixed. ``dropout`` is
    that of the checkpoint, within the blocks, and with ``input_dropout`` before the first as well,
    as ESPnet has it: states before the blocks are then not the frozen ones. ``checkpointing``
    computes a block a second time in the backward pass instead of keeping what is within it, which
    changes no number.
    """

    learning_rate: float = Field(ge=0, allow_inf_nan=False)
    freeze_convolutions: bool = True
    dropout: bool = True
    input_dropout: bool = False
    checkpointing: bool = True

    @model_validator(mode="after")
    def _some_dropout(self) -> "FineTune":
        if self.input_dropout and not self.dropout:
            raise ValueError(
                "expected dropout: true with input_dropout: true, found dropout: false"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """Return what determines a result; ``input_dropout`` is later than the first release."""
        left_out = {"checkpointing"} if self.input_dropout else {"checkpointing", "input_dropout"}
        return self.model_dump(exclude=left_out)


class Sweep(Strict):
    """The learning rates every interface tries, and the seeds that each is tried with."""

    learning_rates: tuple[Rate, ...] | None = Field(None, min_length=1)
    seeds: tuple[Seed, ...] = Field((0,), min_length=1)
    steps: float = Field(1.0, gt=0, le=1)

    @field_validator("learning_rates", "seeds", mode="before")
    @classmethod
    def _tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


def settle(published: Training, *said: Training) -> Training:
    """Return the training that the levels make together, those that are said later on top.

    A size of a batch unsays that of the levels below and how it is made up: another size its
    ``neighbours`` and ``padding``, one in seconds its ``batches`` as well, and these what they are
    followed by.
    """
    recipe = "published"
    for level in said:
        recipe = level.recipe if "recipe" in level.model_fields_set else recipe
    keys: dict[str, Any] = {}
    for level in (published, *said) if recipe == "published" else said:
        own = level.model_dump(exclude_unset=True)
        unsaid: tuple[str, ...] = ()
        if any(own.get(key) is not None for key in BATCH):
            unsaid = (*BATCH, "neighbours", "padding")
        if own.get("batch_seconds") is not None:
            unsaid += ("batches", *_MADE)  # the others count utterances
        if "batches" in own:
            unsaid += _MADE
        keys = {k: v for k, v in keys.items() if k not in unsaid} | own
    if all(keys.get(key) is None for key in BATCH):
        keys["batch_seconds"] = BATCH_SECONDS
    return Training(**keys)
