"""The device of a worker: what it is called, what it holds, what its pixels depend on.

torch is not imported: a parent process asks NVML, package metadata and the kernel.
"""

import os
import platform
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import psutil
import pynvml

from orchestrator.device_classes import CPU, class_of
from orchestrator.errors import BadRequest
from orchestrator.remedies import Say

MIB: Final = 1024 * 1024
LIBRARIES: Final = ("torch", "diffusers", "transformers", "tokenizers", "safetensors", "numpy")
"""Libraries that decide pixels besides the model and the device."""

_CGROUP_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_VECTOR_FLAGS: Final = frozenset(
    {"avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "asimd", "sve"}
)
"""CPU features by which torch and oneDNN choose kernels, and so the order of their sums."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One GPU, or the CPU."""

    name: str
    """As torch calls it: `cpu`, `cuda:0` …"""
    device_class: str
    """As the cost model and the rate card call it: `cpu`, `nvidia-a10g` …"""
    memory_mb: int
    versions: dict[str, str]
    kernels: str
    """Other things that choose its kernels: the CPU's vector units, the GPU's driver."""

    def fingerprint(self, threads: int = 0) -> str:
        """Return a name for all that decides pixels on this device; equal name, equal pixels."""
        facts = [
            self.device_class,
            self.kernels,
            *sorted(f"{n}={v}" for n, v in self.versions.items()),
        ]
        if self.device_class == CPU:
            facts.append(f"threads={cpu_threads(threads)}")
        return f"{self.device_class}-{sha256('|'.join(facts).encode()).hexdigest()[:16]}"


def discover(name: str = "") -> Device:
    """Return the named device; without a name the first GPU, or else the CPU.

    Raises:
        BadRequest: there is no such device.
    """
    if name == CPU:
        return _cpu()
    gpus = _gpus()
    if not name:
        return gpus[0] if gpus else _cpu()
    for gpu in gpus:
        if gpu.name == (name if ":" in name else f"{name}:0"):
            return gpu
    raise BadRequest(
        f"There is no device {name!r} here.",
        Say(f"Use one of: {', '.join(['cpu', *(gpu.name for gpu in gpus)])}."),
    )


def cpu_threads(wanted: int) -> int:
    """Return how many threads an engine computes with on a CPU; 0: one for each core."""
    return wanted or psutil.cpu_count(logical=False) or 1


def energy_counter(device: Device) -> Callable[[], int | None]:
    """Return a function that reads the millijoules a device has used since its driver started.

    It answers None where there is no such meter: on a CPU, and on GPUs before Volta.
    """
    if not device.name.startswith("cuda"):
        return lambda: None

    def read() -> int | None:
        with suppress(pynvml.NVMLError, IndexError):
            handle = _visible()[int(device.name.partition(":")[2])]
            return int(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        return None

    return read


def library_versions() -> dict[str, str]:
    """Return the installed versions of the libraries that decide pixels."""
    versions = {"python": platform.python_version()}
    for library in LIBRARIES:
        with suppress(PackageNotFoundError):
            versions[library] = version(library)
    return versions


def _cpu() -> Device:
    return Device(
        name=CPU,
        device_class=CPU,
        memory_mb=min([psutil.virtual_memory().total, *_cgroup_limits()]) // MIB,
        versions=library_versions(),
        kernels=" ".join([platform.machine(), *_vector_units()]),
    )


def _cgroup_limits() -> list[int]:
    """Return the memory limits of this container in bytes, if it has any."""
    texts = [path.read_text().strip() for path in _CGROUP_LIMITS if path.is_file()]
    return [int(text) for text in texts if text.isdigit()]


def _vector_units() -> list[str]:
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file():
        return [platform.processor()]
    return sorted(_VECTOR_FLAGS.intersection(cpuinfo.read_text().split()))


def _gpus() -> list[Device]:
    """Return the NVIDIA GPUs that the driver shows; none where there is no driver."""
    try:
        return [_gpu(index, handle) for index, handle in enumerate(_visible())]
    except pynvml.NVMLError:
        return []


def _visible() -> list[object]:
    """Return NVML's handles of the GPUs that torch sees, in its order.

    NVML shows all of them, by their bus, as a child makes CUDA count (`workers.child.main`).
    CUDA_VISIBLE_DEVICES picks some, by number or UUID, up to the first that is not there.
    """
    pynvml.nvmlInit()
    count = pynvml.nvmlDeviceGetCount()
    every = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
    words = os.environ.get("CUDA_VISIBLE_DEVICES")  # noqa: TID251 - CUDA's own
    if words is None:
        return every
    known = {str(index): handle for index, handle in enumerate(every)}
    known |= {_text(pynvml.nvmlDeviceGetUUID(handle)): handle for handle in every}
    found = []
    for word in words.split(","):
        name = word.strip()
        hits = [
            known[key] for key in known if key == name or (len(name) > 4 and key.startswith(name))
        ]
        if not hits:
            break
        found.append(hits[0])
    return found


def _gpu(index: int, handle: object) -> Device:
    return Device(
        name=f"cuda:{index}",
        device_class=class_of(_text(pynvml.nvmlDeviceGetName(handle))),
        memory_mb=pynvml.nvmlDeviceGetMemoryInfo(handle).total // MIB,
        versions=library_versions(),
        kernels=f"driver {_text(pynvml.nvmlSystemGetDriverVersion())}",
    )


def _text(value: object) -> str:
    """Return NVML's answer as text; older bindings answer in bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)
