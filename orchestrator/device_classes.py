"""Names of device classes: what a driver calls a product, as rate cards and quotes call it."""

import re
from collections.abc import Iterable
from typing import Final

CPU: Final = "cpu"
ANY: Final = "any"
"""The word for every class, where classes are listed."""
MOST_CHARS: Final = 50


def class_of(product: str) -> str:
    """Return a device's class from its product name: `NVIDIA A10G` is `nvidia-a10g`.

    Raises:
        ValueError: the name has no letter or digit.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", product.lower()).strip("-")
    if not slug:
        raise ValueError("must name a device class, as cpu or NVIDIA L4")
    name = slug if slug == CPU or slug.startswith("nvidia") else f"nvidia-{slug}"
    return name[:MOST_CHARS]


def named(products: Iterable[str]) -> tuple[str, ...] | None:
    """Return the classes of a list of products, each once; None for a list that says `any`.

    Raises:
        ValueError: one of them is no name.
    """
    listed = [product.strip() for product in products]
    if any(product.lower() == ANY for product in listed):
        return None
    return tuple(dict.fromkeys(class_of(product) for product in listed))
