"""Parts of a GPU (MIG): one name for each, whatever CUDA or a job's environment calls it.

Of a board that is split CUDA shows a process one part: the one that ``CUDA_VISIBLE_DEVICES`` names,
else the first. Its UUID is the board's or, with newer versions, the part's (CUDA's driver API,
``cuDeviceGetUuid`` and ``cuDeviceGetUuid_v2``), and a part's name has two styles. NVML knows all of
them and gives each part one name, as ``nvidia-smi -L`` prints it.
"""

import ctypes
from typing import Any

from ssl_bench.energy import library

_DONE = 0
_LONGEST = 96
"""Bytes of a name in NVML (``NVML_DEVICE_UUID_V2_BUFFER_SIZE``)."""


class Parts:
    """Names parts of GPUs.

    Args:
        nvml: the library, already loaded; by default that of the driver.
    """

    def __init__(self, nvml: Any | None = None) -> None:
        found = nvml or library()
        self._nvml = found if found is not None and found.nvmlInit_v2() == _DONE else None

    def name(self, uuid: str, asked: str) -> str:
        """Return the name under which a device is held.

        Args:
            uuid: what CUDA calls the device.
            asked: what ``CUDA_VISIBLE_DEVICES`` calls it; empty if it says nothing.

        Returns:
            ``MIG-…`` for a part, else ``uuid``. Without NVML a part is known by what was asked for.
        """
        if asked.startswith("MIG-"):
            return self._uuid(self._handle(asked)) or asked
        bare = uuid.removeprefix("GPU-").removeprefix("MIG-")
        return (
            self._first(self._handle(f"GPU-{bare}"))
            or self._uuid(self._handle(f"MIG-{bare}"))
            or uuid
        )

    def _handle(self, name: str) -> ctypes.c_void_p | None:
        """Look a board or part up by a name of either style."""
        handle = ctypes.c_void_p()
        return self._answer("nvmlDeviceGetHandleByUUID", ctypes.c_char_p(name.encode()), handle)

    def _uuid(self, handle: ctypes.c_void_p | None) -> str | None:
        if self._nvml is None or handle is None:
            return None
        text = ctypes.create_string_buffer(_LONGEST)
        done = self._nvml.nvmlDeviceGetUUID(handle, text, _LONGEST) == _DONE
        return text.value.decode() if done else None

    def _first(self, board: ctypes.c_void_p | None) -> str | None:
        """Return the name of a board's first part, None if it is whole."""
        count = self._answer("nvmlDeviceGetMaxMigDeviceCount", board, ctypes.c_uint())
        for number in range(count.value if count is not None else 0):
            index = ctypes.c_uint(number)  # of which not all need be in use
            part = self._answer(
                "nvmlDeviceGetMigDeviceHandleByIndex", board, index, ctypes.c_void_p()
            )
            if part is not None:
                return self._uuid(part)
        return None

    def _answer(self, query: str, *arguments: Any) -> Any | None:
        """Return the last argument, filled in; None where NVML does not answer."""
        function = getattr(self._nvml, query, None)  # a driver from before MIG has not all
        if function is None or arguments[0] is None:
            return None
        *given, answer = arguments
        return answer if function(*given, ctypes.byref(answer)) == _DONE else None
