"""When the Triton kernels are used; what they compute is in ``interpreted_kernels.py``."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses import FakeTensorMode

from SSL_Interface import fusing

TRITON = importlib.util.find_spec("triton") is not None


@pytest.mark.slow
@pytest.mark.skipif(not TRITON, reason="needs Triton, which comes with torch's CUDA build")
def test_in_the_interpreter():
    file = Path(__file__).with_name("interpreted_kernels.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert re.search(r"^\d+ passed", done.stdout.splitlines()[-1]), done.stdout[-4000:]


def test_layouts():
    states = torch.empty(3, 2, 5, 7)
    assert fusing.layout(states) == ((0, 70, 7), 0, False)
    assert fusing.layout(states[::2]) == ((0, 140, 7), 0, False)
    assert fusing.layout(states[:, 1:]) == ((0, 70, 7), 0, False)
    frames = torch.empty(2, 5, 3, 7).movedim(2, 0)
    assert fusing.layout(frames) == ((0, 7, 21), 7, False)
    assert fusing.layout(frames[:2]) == ((0, 7, 21), 7, False)
    assert fusing.layout(frames[:, :, :1]) == ((0, 7, 105), 7, False)
    assert fusing.layout(torch.empty(4, 3, 2, 5, 7)) == ((210, 70, 7), 0, False)
    assert fusing.layout(torch.empty(1, 1, 1, 7)) == ((0, 7, 7), 0, False)
    for odd in (states[:, :, 1:], states.transpose(1, 2), states.transpose(2, 3)):
        assert fusing.layout(odd) is None
    assert not fusing.layout(torch.empty(2, 2, 2**19, 2**10, device="meta")).large
    assert fusing.layout(torch.empty(2, 2, 2**20, 2**10, device="meta")).large
    assert fusing.layout(torch.empty(1, 2**20, 4, 2**10, device="meta").movedim(2, 0)).large


def test_which_tensors_are_for_kernels(monkeypatch):
    found = object()
    monkeypatch.setattr(fusing, "_working", lambda device, dtype: found)
    logits, states = torch.zeros(3), torch.zeros(3, 2, 5, 7)
    assert fusing.kernels_for(logits, states) is None  # a CPU
    monkeypatch.setattr(fusing, "DEVICES", ("cpu", "cuda"))
    assert fusing.kernels_for(logits, states) is found
    assert fusing.kernels_for(torch.nn.Parameter(logits), states, states[0]) is found
    assert fusing.kernels_for(logits, states.double()) is None
    assert fusing.kernels_for(logits, states[:, :, 1:]) is None
    assert fusing.kernels_for(logits, states[:, :0]) is None
    assert fusing.kernels_for(torch.zeros(65), torch.zeros(65, 1, 1, 1)) is None
    assert fusing.kernels_for(logits, states, states[0].to("meta")) is None
    assert fusing.kernels_for(logits.to("meta"), states.to("meta")) is None
    with FakeTensorMode():
        assert (
            fusing.kernels_for(*(torch.empty(s, device="cuda") for s in (3, (3, 2, 5, 7)))) is None
        )
    seen = []
    torch.vmap(lambda x: seen.append(fusing.kernels_for(logits, x)) or x)(states[None])
    torch.func.grad(lambda x: (seen.append(fusing.kernels_for(x, states)), x.sum())[1])(logits)
    assert seen == [None, None]


class TritonError(Exception):
    """What Triton raises of its own, such as where a GPU has too little memory on its chip."""


@pytest.mark.parametrize("kind", [RuntimeError, TritonError])
def test_triton_that_does_not_work(kind, monkeypatch):
    def broken(*_):
        raise kind("Failed to find C compiler.\nPlease specify via CC")

    device = torch.device("cpu")
    modules = {
        "SSL_Interface.kernels": SimpleNamespace(softmax_sum=broken, softmax_sum_backward=broken),
        "triton.errors": SimpleNamespace(TritonError=TritonError),
    }
    monkeypatch.setattr(fusing.importlib, "import_module", modules.__getitem__)
    message = "Triton does not work on cpu, .*: Failed to find C compiler"
    with pytest.warns(UserWarning, match=message):
        assert fusing._working.__wrapped__(device, torch.float32) is None


def test_triton_that_is_not_there(monkeypatch, recwarn):
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "SSL_Interface.kernels", raising=False)
    assert fusing._working.__wrapped__(torch.device("cpu"), torch.float32) is None
    assert not recwarn.list
