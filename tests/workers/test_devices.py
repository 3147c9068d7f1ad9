"""Devices are found without torch, and their fingerprint names what decides pixels."""

import subprocess
import sys
from dataclasses import replace

import pytest

from orchestrator.device_classes import class_of
from orchestrator.errors import BadRequest
from workers.devices import discover, energy_counter


def test_the_cpu_is_always_there() -> None:
    """The CPU has its class, its memory and the versions of what decides its pixels."""
    cpu = discover("cpu")
    assert (cpu.name, cpu.device_class) == ("cpu", "cpu")
    assert cpu.memory_mb > 256
    assert {"python", "torch", "diffusers"} <= set(cpu.versions)


def test_a_device_that_is_not_there_is_refused_with_those_that_are() -> None:
    """The error names the devices of this machine."""
    with pytest.raises(BadRequest) as refused:
        discover("cuda:99")
    assert "cpu" in refused.value.advice


def test_a_cpu_has_no_energy_meter() -> None:
    """Nothing is claimed where nothing can be read."""
    assert energy_counter(discover("cpu"))() is None


@pytest.mark.parametrize(
    ("product", "device_class"),
    [
        ("NVIDIA A10G", "nvidia-a10g"),
        ("NVIDIA GeForce RTX 4090", "nvidia-geforce-rtx-4090"),
        ("Tesla T4", "nvidia-tesla-t4"),
        ("NVIDIA H100 80GB HBM3", "nvidia-h100-80gb-hbm3"),
    ],
)
def test_a_gpu_is_classed_by_its_product_name(product: str, device_class: str) -> None:
    """The class is a slug that begins with the vendor."""
    assert class_of(product) == device_class


def test_the_fingerprint_is_stable_and_changes_with_what_decides_pixels() -> None:
    """Another library version, another kernel choice or another thread count is another name."""
    cpu = discover("cpu")
    others = [
        replace(cpu, versions=cpu.versions | {"torch": "0.0"}),
        replace(cpu, kernels="x86_64 sse2"),
    ]
    names = {cpu.fingerprint(2), cpu.fingerprint(1), *(other.fingerprint(2) for other in others)}
    assert len(names) == 4
    assert discover("cpu").fingerprint(2) == cpu.fingerprint(2)
    assert all(len(name) <= 100 for name in names)


def test_discovery_does_not_load_torch() -> None:
    """A worker's parent process stays small."""
    code = "import sys, workers.devices as d; d.discover(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
