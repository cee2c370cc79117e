"""The fused optimizer step is torch's arithmetic."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import SSL_Interface
from ssl_bench.heads.frame_linear import FrameLinearHead
from ssl_bench.runs import Joined, Run, Runs

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_the_kernel_is_torchs_arithmetic() -> None:
    pytest.importorskip("triton")
    script = Path(__file__).with_name("interpreted_adam.py")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


@needs_gpu
@pytest.mark.parametrize("skip", [False, True], ids=["stop", "skip"])
@pytest.mark.parametrize(("decay", "decoupled"), [(0.0, False), (0.01, False), (0.01, True)])
def test_runs_update_the_same_on_both_devices(decay: float, decoupled: bool, skip: bool) -> None:
    def make() -> Joined:
        joined = SSL_Interface.create("hconv", num_layers=4, dim=8, normalize=False)
        return Joined(joined, FrameLinearHead(joined.output_dim, hidden=16, classes=5))

    made = [
        Runs(
            [Run(0, 1e-2), Run(1, 1e-1), Run(2, 1e-3)],
            make,
            torch.device(device),
            stackable=True,
            weight_decay=decay,
            decoupled=decoupled,
            skip=skip,
        )
        for device in ("cpu", "cuda")
    ]
    generator = torch.Generator().manual_seed(0)
    for step in range(5):
        grads = torch.randn(made[0]._flat.shape, generator=generator) * 10.0 ** (step - 2)
        if step == 3:
            grads[1, 3] = torch.inf
        for runs in made:
            runs.update(grads.to(runs.device), 0.7)
    assert made[0].alive.tolist() == made[1].alive.tolist() == [True, skip, True]
    for name, value in made[0].state().items():
        other = made[1].state()[name].cpu()
        if name in ("first", "second"):  # nothing reads those of a run that has stopped
            value, other = value[made[0].alive], other[made[0].alive]
        torch.testing.assert_close(other, value, rtol=1e-4, atol=1e-6)
