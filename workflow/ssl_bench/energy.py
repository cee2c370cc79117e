"""How much energy a GPU took: NVML's counter, where the driver has one.

``nvmlDeviceGetTotalEnergyConsumption`` counts millijoules of the whole board since the driver was
loaded (Volta and later; not for a part of a GPU). With several jobs on one GPU it counts all of
them. The library comes with the driver; where it, the counter or the GPU is missing there is no
number, and no error.
"""

import ctypes
from typing import Any

import torch

LIBRARY = "libnvidia-ml.so.1"
_DONE = 0


def library() -> Any | None:
    """Load NVML; None where there is no driver."""
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError:
        return None


class Meter:
    """Counts the energy that a device takes from now on.

    Args:
        device: a CPU has no counter here.
        nvml: the library, already loaded; by default that of the driver.
    """

    def __init__(self, device: torch.device, nvml: Any | None = None) -> None:
        self._nvml: Any | None = None
        self._handle = ctypes.c_void_p()
        if device.type == "cuda":
            uuid = str(torch.cuda.get_device_properties(device).uuid).removeprefix("GPU-")
            self._open(f"GPU-{uuid}", nvml or library())
        self._began = self._counter()

    def _open(self, uuid: str, nvml: Any | None) -> None:
        if nvml is None or nvml.nvmlInit_v2() != _DONE:
            return
        name = ctypes.c_char_p(uuid.encode())
        if nvml.nvmlDeviceGetHandleByUUID(name, ctypes.byref(self._handle)) == _DONE:
            self._nvml = nvml

    def _counter(self) -> int | None:
        if self._nvml is None:
            return None
        millijoules = ctypes.c_ulonglong()
        query = self._nvml.nvmlDeviceGetTotalEnergyConsumption
        status = query(self._handle, ctypes.byref(millijoules))
        return millijoules.value if status == _DONE else None

    def joules(self) -> float | None:
        """Return the energy since the meter was made, in joules; None where nothing counts it."""
        now = self._counter()
        if now is None or self._began is None or now < self._began:  # the driver was loaded anew
            return None
        return round((now - self._began) / 1000, 3)
