"""The energy counter of a GPU, with a driver that is made up: what it says, what it may lack."""

import ctypes
from types import SimpleNamespace

import pytest
import torch

from ssl_bench import energy
from ssl_bench.energy import Meter

CPU, GPU = torch.device("cpu"), torch.device("cuda", 1)
UUID = "6a1b0c3d-0000-1111-2222-333344445555"


class Driver:
    """NVML with two GPUs; every reading of the second one's counter takes the next number."""

    def __init__(self, readings=(), init=0, handle=0, query=0) -> None:
        self.readings, self.status = list(readings), (init, handle, query)
        self.asked: list[bytes] = []

    def nvmlInit_v2(self) -> int:
        return self.status[0]

    def nvmlDeviceGetHandleByUUID(self, uuid, handle) -> int:
        self.asked.append(uuid.value)
        handle._obj.value = 77
        return self.status[1]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle, value) -> int:
        assert handle.value == 77
        assert isinstance(value._obj, ctypes.c_ulonglong)
        value._obj.value = self.readings.pop(0)
        return self.status[2]


@pytest.fixture(autouse=True)
def gpus(monkeypatch) -> None:
    monkeypatch.setattr(
        torch.cuda,
        "get_device_properties",
        lambda device: SimpleNamespace(uuid=UUID if device == GPU else "other"),
    )


def test_joules_are_those_between_two_readings_of_that_gpu() -> None:
    driver = Driver([10**12, 10**12 + 4500, 10**12 + 7250])
    meter = Meter(GPU, driver)
    assert driver.asked == [b"GPU-" + UUID.encode()]
    assert (meter.joules(), meter.joules()) == (4.5, 7.25)


@pytest.mark.parametrize(
    "driver",
    [
        Driver(init=9),
        Driver(handle=6),
        Driver([0, 0], query=3),  # not supported: older boards, parts of a GPU
        Driver([9000, 10]),  # the driver was loaded anew in between
    ],
    ids=["no start", "no such GPU", "no counter", "counter begins anew"],
)
def test_what_lacks_is_no_number(driver) -> None:
    assert Meter(GPU, driver).joules() is None


def test_a_machine_without_a_driver(monkeypatch) -> None:
    monkeypatch.setattr(energy, "LIBRARY", "libnot-there.so.1")
    assert energy.library() is None
    assert Meter(GPU).joules() is None


def test_a_cpu_asks_no_driver() -> None:
    driver = Driver()
    assert Meter(CPU, driver).joules() is None
    assert not driver.asked
