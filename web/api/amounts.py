"""Amounts of budget as clients write them: GPU-seconds, exact to the millisecond."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, WithJsonSchema

FORM: Final[Mapping[str, bool]] = {"form": True}
"""Context of a validation whose values are all text, as a form sends them."""
FLOAT_NOISE: Final = Decimal("1e-12")
"""How far off a client's binary floats may be: 0.1 + 0.2 has three places."""
MOST: Final = 10**9


def gpu_ms(seconds: Decimal) -> int:
    """Return seconds of budget as GPU-ms; exact."""
    return int(seconds * 1000)


def _number(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, bool) or (isinstance(value, str) and info.context is None):
        raise ValueError("a number is asked for")
    return value


def _three_places(value: Decimal) -> Decimal:
    whole = round(value, 3)
    if abs(value - whole) > abs(value) * FLOAT_NOISE:
        raise ValueError("at most three decimal places")
    return whole


def _schema(**least: int) -> WithJsonSchema:
    return WithJsonSchema({"type": "number", **least, "maximum": MOST, "multipleOf": 0.001})


GpuSeconds = Annotated[
    Decimal,
    Field(gt=0, le=MOST, allow_inf_nan=False, strict=False),
    BeforeValidator(_number),
    AfterValidator(_three_places),
    _schema(exclusiveMinimum=0),
]
"""Seconds of budget; more than three places would not be whole GPU-ms."""
GpuSecondsOrZero = Annotated[
    Decimal,
    Field(ge=0, le=MOST, allow_inf_nan=False, strict=False),
    BeforeValidator(_number),
    AfterValidator(_three_places),
    _schema(minimum=0),
]
"""The same, and 0."""
