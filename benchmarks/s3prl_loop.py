"""Training steps of s3prl's own loop on PR, timed: the other side of ``benchmarks/throughput.py``.

    python benchmarks/s3prl_loop.py                               # HuBERT Base, Table 1, fp32
    python benchmarks/s3prl_loop.py --autocast                    # the same under bf16 autocast
    python benchmarks/s3prl_loop.py --shape large --published FOLDER --json large.json
    python benchmarks/s3prl_loop.py --shape tiny --device cpu --seconds 20 --steps 2

A step is what ``s3prl/downstream/runner.py`` does with a batch that its data loader has read:
waveforms to the device, the frozen upstream in eval mode and without gradients, the interface, the
PR head with CTC and the greedy decoding of the batch, backward, clipping, Adam. ``s3prl_runner.py``
says which files of s3prl that is, and what stands for the interfaces that it lacks. Reading audio,
the log, evaluation and checkpoints are left out, in s3prl's favour.

Weights are random, in HuBERT's shapes. ``--upstream hf_hubert_custom`` (transformers' HuBERT) and
``hubert_local`` (the module behind ``hubert_base``) are both s3prl's. fp32 is torch's default: full
precision in matrix products, TF32 in convolutions. ``--autocast`` puts upstream, interface and head
under bf16 autocast; ``--autocast fp16`` is s3prl's own switch (``runner.fp16``). Batches are those
of ``speechlike.py``; with ``--similar`` the utterances of a batch have nearly one length, as those
of s3prl's loader, so that little is padded.

Columns: milliseconds a step (median), seconds of audio × runs trained in a second (one run here),
peak memory in MiB of all that torch has allocated (GPU only), loss of the last step.
"""

import argparse
import contextlib
import gc
import importlib.metadata
import io
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from random_hubert import SHAPES, TINY, write
from s3prl_runner import TABLE_1, make, run_for, runner_module
from speechlike import Batch, draw
from torch import nn

UPSTREAMS = ("hf_hubert_custom", "hubert_local")
PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}
ENCODER = "encoder alone"


@dataclass(frozen=True)
class Timing:
    """What steps of one interface took.

    ``seconds`` a step: the mean over batches of each batch's median. ``audio_seconds``: of a batch,
    on average, without padding. ``peak_mib``: the most that was allocated during timed steps; none
    on a CPU. ``losses``: of all steps, warm-up included; none for the encoder alone.
    """

    interface: str
    seconds: float
    audio_seconds: float
    peak_mib: float | None
    losses: tuple[float, ...]

    @property
    def rate(self) -> float:
        """Seconds of audio × runs in a second; of one run, since s3prl trains one at a time."""
        return self.audio_seconds / self.seconds


class Clock:
    """Serves batches in turn in the place of s3prl's data loader, and notes when each is taken.

    Args:
        warm_up: steps that are not timed.
        steps: timed steps after them.
    """

    def __init__(self, batches: Sequence[Batch], steps: int, warm_up: int, device: str) -> None:
        self.batches, self.warm_up, self.device = batches, warm_up, device
        self.total = warm_up + steps
        self.served = [as_collated(batch) for batch in batches]
        self.times: list[float] = []

    def __call__(self, split: str, epoch: int = 0) -> "Clock":
        """Stand in for ``DownstreamExpert.get_dataloader``."""
        if self.times:  # the runner skips a batch that does not fit, and would go on for ever
            raise MemoryError("a step ran out of memory, and s3prl's runner went on without it")
        return self

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Iterator[tuple]:
        for step in range(self.total + 1):  # the runner takes one more and stops
            self.tick(step)
            yield self.served[step % len(self.served)]

    def tick(self, step: int) -> None:
        """Note the time at which the step before has ended."""
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()
            if step == self.warm_up:
                torch.cuda.reset_peak_memory_stats()
        self.times.append(time.perf_counter())

    def timing(self, interface: str, losses: Sequence[float] = ()) -> Timing:
        """Sum up all timed steps."""
        each: list[list[float]] = [[] for _ in self.batches]
        for step in range(self.warm_up, self.total):
            each[step % len(each)].append(self.times[step + 1] - self.times[step])
        cuda = self.device.startswith("cuda")
        return Timing(
            interface,
            statistics.mean(statistics.median(times) for times in each),
            statistics.mean(batch.seconds for batch in self.batches),
            torch.cuda.max_memory_allocated() / 2**20 if cuda else None,
            tuple(losses),
        )


def seconds_per_step(
    interface: str,
    batches: Batch | Sequence[Batch],
    checkpoint: Path,
    *,
    upstream: str = UPSTREAMS[0],
    device: str = "cuda",
    steps: int = 20,
    warm_up: int = 5,
    autocast: str | None = None,
    published: Path | None = None,
) -> Timing:
    """Time training steps of one interface in s3prl's loop.

    Args:
        interface: a name of ``s3prl_runner.TABLE_1``.
        batches: served in turn; ``steps`` must be enough for each.
        checkpoint: from ``random_hubert.write(upstream, …)``.
        autocast: None (fp32 as shipped), ``bf16`` or ``fp16`` (s3prl's own, on a GPU).
        published: folder of the published package, for HConv.

    Raises:
        MemoryError: s3prl's runner met a batch that does not fit, which it skips.
        FloatingPointError: a loss or a gradient was not finite.
    """
    batches = [batches] if isinstance(batches, Batch) else list(batches)
    clock = Clock(batches, checked(steps, batches), warm_up, device)
    kept: dict[str, list] = {}
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, as_torch_ships(), quiet(said):
        torch.manual_seed(0)
        runner = make(
            interface,
            upstream,
            checkpoint,
            batches[0].waveforms[:8],
            Path(folder),
            device,
            published,
        )
        expert = runner.downstream.model
        expert.get_dataloader = clock
        expert.log_records = lambda split, records, **_: kept.update(records)
        if autocast == "fp16":
            runner.config["runner"]["fp16"] = True
        elif autocast is not None:
            for entry in runner.all_entries:
                under_autocast(entry.model, device, PRECISIONS[autocast])
        run_for(runner, clock.total)
    losses = kept["loss"]
    if "grad norm is NaN" in said.getvalue() or not all(map(finite, losses)):
        raise FloatingPointError(f"{interface}: a loss or a gradient is not finite ({losses})")
    timing = clock.timing(interface, losses)
    del runner, expert
    release(device)
    return timing


def encoder_seconds(
    batches: Batch | Sequence[Batch],
    checkpoint: Path,
    *,
    upstream: str = UPSTREAMS[0],
    device: str = "cuda",
    steps: int = 20,
    warm_up: int = 5,
    autocast: str | None = None,
) -> Timing:
    """Time the upstream of s3prl's loop by itself; arguments as of :func:`seconds_per_step`."""
    batches = [batches] if isinstance(batches, Batch) else list(batches)
    clock = Clock(batches, checked(steps, batches), warm_up, device)
    with as_torch_ships(), quiet(io.StringIO()):
        model = getattr(runner_module().hub, upstream)(ckpt=str(checkpoint)).to(device).eval()
        if autocast is not None:
            under_autocast(model, device, PRECISIONS[autocast])
        for step, (waveforms, *_) in enumerate(clock):
            if step == clock.total:
                break
            with torch.no_grad():
                model([torch.FloatTensor(wave).to(device) for wave in waveforms])
    timing = clock.timing(ENCODER)
    del model
    release(device)
    return timing


def as_collated(batch: Batch) -> tuple:
    """Give a batch as ``s3prl/downstream/ctc/data.py`` collates it: arrays, longest first."""
    names = tuple(f"utterance-{n}" for n in range(len(batch.waveforms)))
    waveforms = tuple(wave.numpy() for wave in batch.waveforms)
    return waveforms, tuple(target.numpy() for target in batch.targets), names


def under_autocast(module: nn.Module, device: str, dtype: torch.dtype) -> None:
    """Run a module's forward under autocast, within the runner's own, which is off."""
    kind = torch.device(device).type
    module.forward = torch.autocast(kind, dtype)(module.forward)


@contextlib.contextmanager
def as_torch_ships() -> Iterator[None]:
    """Compute fp32 products in fp32 within, whatever the caller has set."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextlib.contextmanager
def quiet(said: io.StringIO) -> Iterator[None]:
    """Keep what s3prl prints, and its progress bars, off the screen."""
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
        yield


def release(device: str) -> None:
    """Give the memory of what was deleted back to the GPU."""
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()


def checked(steps: int, batches: Sequence[Batch]) -> int:
    if steps < len(batches):
        raise SystemExit(f"--steps: found {steps}, expected at least {len(batches)}, one a batch")
    return steps


def finite(loss: float) -> bool:
    return loss == loss and abs(loss) != float("inf")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=[*SHAPES, "tiny"], default="base")
    parser.add_argument("--upstream", choices=UPSTREAMS, default=UPSTREAMS[0])
    parser.add_argument("--interfaces", nargs="*", choices=TABLE_1, default=list(TABLE_1))
    parser.add_argument("--autocast", nargs="?", choices=PRECISIONS, const="bf16")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=195.0, help="of audio in a batch")
    parser.add_argument("--similar", action="store_true", help="utterances of nearly one length")
    parser.add_argument("--batches", type=int, default=1, help="served in turn")
    parser.add_argument("--steps", type=int, default=20, help="that are timed")
    parser.add_argument("--warm-up", type=int, default=5, help="steps before them")
    parser.add_argument("--published", type=Path, help="folder of the published package")
    parser.add_argument("--json", type=Path, help="write all numbers there")
    options = parser.parse_args()
    batches = [draw(options.seconds, seed, options.similar) for seed in range(options.batches)]
    facts = describe(options, batches)
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    common: dict[str, Any] = {
        "upstream": options.upstream,
        "device": options.device,
        "steps": options.steps,
        "warm_up": options.warm_up,
        "autocast": options.autocast,
    }
    with tempfile.TemporaryDirectory() as folder:
        shape = TINY if options.shape == "tiny" else SHAPES[options.shape]
        checkpoint = write(options.upstream, shape, Path(folder))
        print(f"\n{'interface':16}{'ms':>10}{'audio s / s':>14}{'peak MiB':>10}{'loss':>8}")
        encoder = encoder_seconds(batches, checkpoint, **common)
        show(encoder)
        timings = []
        for name in options.interfaces:
            try:
                timing = seconds_per_step(
                    name, batches, checkpoint, published=options.published, **common
                )
            except MemoryError as error:
                print(f"{name:16} left out: {error}; fewer --seconds would fit", flush=True)
                continue
            timings.append(timing)
            show(timing)
    if timings:
        together = len(timings) * encoder.audio_seconds / sum(t.seconds for t in timings)
        print(f"{len(timings)} runs, one after another: {together:.0f} audio s × runs / s")
    if options.json is not None:
        rows = [{**asdict(t), "rate": t.rate} for t in (encoder, *timings)]
        options.json.write_text(json.dumps({"facts": facts, "rows": rows}, indent=1))


def describe(options: argparse.Namespace, batches: Sequence[Batch]) -> dict[str, Any]:
    """Say what was measured on what."""
    cuda = options.device.startswith("cuda")
    processor = platform.processor() or platform.machine()
    return {
        "device": torch.cuda.get_device_name() if cuda else processor,
        **{name: version(name) for name in ("torch", "transformers", "s3prl")},
        "shape": options.shape,
        "upstream": options.upstream,
        "precision": f"{options.autocast} autocast" if options.autocast else "fp32",
        "hconv": "plain form" if options.published is None else "published package",
        "batches": len(batches),
        "utterances a batch": round(statistics.mean(len(b.waveforms) for b in batches), 1),
        "seconds a batch": round(statistics.mean(b.seconds for b in batches), 1),
        "seconds with padding": round(statistics.mean(b.padded_seconds for b in batches), 1),
    }


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def show(timing: Timing) -> None:
    peak = "" if timing.peak_mib is None else f"{timing.peak_mib:.0f}"
    loss = f"{timing.losses[-1]:.2f}" if timing.losses else ""
    numbers = f"{timing.seconds * 1e3:>10.1f}{timing.rate:>14.0f}{peak:>10}{loss:>8}"
    print(f"{timing.interface:16}{numbers}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
