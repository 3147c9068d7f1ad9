"""GPUs by the real NVML binding, on a driver library made here: no GPU has seen this code."""

import json
import os
import subprocess
import sys
from pathlib import Path
from shutil import which
from typing import Any, Final

import pytest

from orchestrator.cli import checks
from workers.devices import library_versions

COMPILER: Final = which("cc") or which("gcc") or ""
CI: Final = bool(os.environ.get("CI"))  # noqa: TID251 - there it fails without a compiler
pytestmark = pytest.mark.skipif(not COMPILER and not CI, reason="there is no C compiler here")

DRIVER: Final = """
#include <stdlib.h>
#include <string.h>
static const char *names[] = {"NVIDIA A10G", "NVIDIA H100 80GB HBM3"};
static const char *uuids[] = {"GPU-11111111-aaaa", "GPU-22222222-bbbb"};
static const unsigned long long megabytes[] = {23028, 81559};
static unsigned long long used[] = {5000, 900000};
static int number(void *device) { return (int)(size_t)device - 1; }
int nvmlInitWithFlags(unsigned flags) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    if (index > 1) return 2;
    *device = (void *)(size_t)(index + 1);
    return 0;
}
int nvmlDeviceGetName(void *device, char *text, unsigned size) {
    strncpy(text, names[number(device)], size);
    return 0;
}
int nvmlDeviceGetUUID(void *device, char *text, unsigned size) {
    strncpy(text, uuids[number(device)], size);
    return 0;
}
int nvmlSystemGetDriverVersion(char *text, unsigned size) {
    strncpy(text, "580.65.06", size);
    return 0;
}
int nvmlDeviceGetMemoryInfo(void *device, unsigned long long *memory) {
    memory[0] = megabytes[number(device)] << 20;
    return 0;
}
#ifndef OLD
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules) {
    if (getenv("BEFORE_VOLTA")) return 3;
    used[number(device)] += 250;
    *millijoules = used[number(device)];
    return 0;
}
#endif
"""
"""Two GPUs, each of which uses 250 mJ between two looks."""


def driver(folder: Path, *flags: str) -> Path:
    """Compile the library into a folder, to be found there under its name."""
    source = folder / "nvml.c"
    source.write_text(DRIVER)
    library = folder / "libnvidia-ml.so.1"
    argv = [COMPILER, "-shared", "-fPIC", "-w", *flags, "-o", str(library), str(source)]
    subprocess.run(argv, check=True)
    return folder


def ask(folder: Path, code: str, **env: str) -> Any:
    """Run code beside `workers.devices` with the driver of a folder; return what it prints."""
    argv = [sys.executable, "-c", f"import json\nfrom workers import devices\n{code}"]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("CUDA_")}  # noqa: TID251 - a child's
    done = subprocess.run(
        argv,
        env=inherited | {"LD_LIBRARY_PATH": str(folder)} | env,
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout)


FACTS: Final = (
    "d = devices.discover({name!r})\n"
    "print(json.dumps([d.name, d.device_class, d.memory_mb, d.kernels]))"
)
ENERGY: Final = (
    "read = devices.energy_counter(devices.discover({name!r}))\nprint(json.dumps([read(), read()]))"
)


def test_a_gpu_is_found_by_what_its_driver_says(tmp_path: Path) -> None:
    """Name, class, memory in MiB and the driver's version, of the first GPU or the named one."""
    folder = driver(tmp_path)
    first = ["cuda:0", "nvidia-a10g", 23028, "driver 580.65.06"]
    assert ask(folder, FACTS.format(name="")) == first
    assert ask(folder, FACTS.format(name="cuda")) == first
    second = ["cuda:1", "nvidia-h100-80gb-hbm3", 81559, "driver 580.65.06"]
    assert ask(folder, FACTS.format(name="cuda:1")) == second


def test_a_gpu_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """The error names those that are."""
    code = (
        "from orchestrator.errors import BadRequest\n"
        "try: devices.discover('cuda:5')\n"
        "except BadRequest as error: print(json.dumps(error.advice))"
    )
    assert "cpu, cuda:0, cuda:1" in ask(driver(tmp_path), code)


def test_energy_is_counted_in_millijoules(tmp_path: Path) -> None:
    """Two looks differ by what was used between them, on the device that was asked for."""
    folder = driver(tmp_path)
    assert ask(folder, ENERGY.format(name="cuda:0")) == [5_250, 5_500]
    assert ask(folder, ENERGY.format(name="cuda:1")) == [900_250, 900_500]


def test_a_gpu_without_a_meter_claims_nothing(tmp_path: Path) -> None:
    """Not supported before Volta, and a driver too old to know the question: None, no error."""
    old = tmp_path / "old"
    old.mkdir()
    code = ENERGY.format(name="cuda:0")
    assert ask(driver(tmp_path), code, BEFORE_VOLTA="1") == [None, None]
    assert ask(driver(old, "-DOLD"), code) == [None, None]


def test_without_a_driver_there_is_no_gpu(tmp_path: Path) -> None:
    """A library that is missing, or is none, leaves the CPU; asked for a GPU's energy, None."""
    code = (
        "from dataclasses import replace\n"
        "cpu = devices.discover()\n"
        "gone = devices.energy_counter(replace(cpu, name='cuda:0'))\n"
        "print(json.dumps([cpu.name, gone()]))"
    )
    assert ask(tmp_path, code) == ["cpu", None]
    (tmp_path / "libnvidia-ml.so.1").write_text("not a library")
    assert ask(tmp_path, code) == ["cpu", None]


@pytest.mark.parametrize(
    ("visible", "classes"),
    [
        ("1", ["nvidia-h100-80gb-hbm3"]),
        ("1, 0", ["nvidia-h100-80gb-hbm3", "nvidia-a10g"]),
        ("GPU-2222", ["nvidia-h100-80gb-hbm3"]),
        ("0,7,1", ["nvidia-a10g"]),
        ("-1", []),
        ("", []),
    ],
)
def test_gpus_are_counted_as_torch_counts_them(
    tmp_path: Path, visible: str, classes: list[str]
) -> None:
    """CUDA_VISIBLE_DEVICES chooses and orders them, up to the first that is not there."""
    code = "print(json.dumps([[gpu.name, gpu.device_class] for gpu in devices._gpus()]))"
    found = ask(driver(tmp_path), code, CUDA_VISIBLE_DEVICES=visible)
    assert found == [[f"cuda:{number}", name] for number, name in enumerate(classes)]


def test_energy_is_that_of_the_device_torch_means(tmp_path: Path) -> None:
    """`cuda:0` of a worker that sees the second GPU alone has the second one's meter."""
    found = ask(driver(tmp_path), ENERGY.format(name="cuda:0"), CUDA_VISIBLE_DEVICES="1")
    assert found == [900_250, 900_500]


def test_torch_counts_gpus_by_their_bus(tmp_path: Path) -> None:
    """As NVML does, and not the fastest first, whatever the environment said."""
    code = (
        "import multiprocessing, os\n"
        "from types import SimpleNamespace\n"
        "from orchestrator.catalog import Catalog\n"
        "from workers import child\n"
        "mine, theirs = multiprocessing.Pipe()\n"
        "theirs.close()\n"
        "setup = child.Setup(device=devices.discover('cpu'), threads=1, catalog=Catalog({}))\n"
        "child.main(mine, SimpleNamespace(value=0), setup, os.getppid())\n"
        "print(json.dumps(os.environ['CUDA_DEVICE_ORDER']))"
    )
    assert ask(tmp_path, code, CUDA_DEVICE_ORDER="FASTEST_FIRST") == "PCI_BUS_ID"


def test_the_doctor_sees_a_torch_that_cannot_use_the_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU beside a torch that was built for the CPU is a warning, and not ok."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(driver(tmp_path)))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    finding = checks._device()
    assert "cuda:0 (nvidia-a10g)" in finding.found
    for_cpu = library_versions()["torch"].endswith("+cpu")
    assert finding.state == ("warning" if for_cpu else "ok")
    assert ("CUDA" in finding.mend) == for_cpu
