"""Interfaces of every name, small, seeded and ready to run."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import Tensor

import SSL_Interface
from SSL_Interface import working


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def no_states_are_small():
    """What is written out for large states is what runs in these tests, though theirs are small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(working, "SMALL", 0)
        yield


def make(name: str, num_layers: int, dim: int, seed: int = 0, **options):
    """Create an interface in fp64, parameters shaken so that none is at a special value.

    One that draws random numbers in training comes in evaluation mode, where two forwards agree.
    """
    torch.manual_seed(seed)
    interface = SSL_Interface.create(name, num_layers, dim, **options).double()
    with torch.no_grad():
        for parameter in interface.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    if interface.needs_fit:
        interface.fit_batch(states(num_layers, 4, 20, dim, seed=seed + 100))
        interface.fit_finish()
    generator = torch.get_rng_state()
    interface(states(num_layers, 1, 1, dim))
    return interface if torch.equal(generator, torch.get_rng_state()) else interface.eval()


def states(num_layers: int, batch: int, time: int, dim: int, seed: int = 1) -> Tensor:
    """Random hidden states (L, B, T, D) in fp64; layers differ in scale and offset."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(num_layers, batch, time, dim, generator=generator, dtype=torch.float64)
    scale = torch.linspace(0.5, 3, num_layers, dtype=torch.float64)[:, None, None, None]
    return scale * noise + 0.3 * scale


@pytest.fixture
def build():
    return make


@pytest.fixture
def draw():
    return states


@pytest.fixture(scope="session")
def plain():
    """The module of plain forms."""
    spec = importlib.util.spec_from_file_location("plain", Path(__file__).with_name("plain.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
