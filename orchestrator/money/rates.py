"""Rate cards: what a GPU-second is sold for, and what a device's hour costs, by device class.

Cards come from a TOML file (`FARM_RATES`, else the one shipped beside this module). Each has a
version, which quotes, ledger entries and receipts name, and a day from which it holds. All
amounts are whole micro-USD.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.errors import BadRequest
from orchestrator.remedies import Say

SHIPPED: Final = Path(__file__).with_name("rates.toml")
OTHERWISE: Final = "otherwise"
HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCard:
    """Prices and costs from one day on."""

    version: str
    from_ms: int
    """00:00 UTC of its first day."""
    price: Mapping[str, int]
    """Device class -> micro-USD per GPU-second, for the session."""
    cost: Mapping[str, int]
    """Device class -> micro-USD per hour of a worker's presence, for the operator."""

    def price_microusd(self, gpu_ms: int, device_class: str) -> int:
        """Return the price of device time, rounded up."""
        return -(-gpu_ms * self.per_second(device_class) // 1000)

    def cost_microusd(self, device_ms: int, device_class: str) -> int:
        """Return what device time costs the operator, rounded up."""
        hour = self.cost.get(device_class, self.cost[OTHERWISE])
        return -(-device_ms * hour // HOUR_MS)

    def per_second(self, device_class: str) -> int:
        """Return the price of a GPU-second."""
        return self.price.get(device_class, self.price[OTHERWISE])


@dataclass(frozen=True, slots=True)
class Rates:
    """All cards of a file, oldest first."""

    cards: tuple[RateCard, ...]

    def at(self, now_ms: int) -> RateCard:
        """Return the card that holds at a moment; before the first one begins, that one."""
        begun = [card for card in self.cards if card.from_ms <= now_ms]
        return begun[-1] if begun else self.cards[0]

    def version(self, name: str) -> RateCard | None:
        """Return the card of this version, None where the file has it no more."""
        return next((card for card in self.cards if card.version == name), None)


def load(file: Path) -> Rates:
    """Read rate cards.

    Raises:
        BadRequest: the file cannot be used; names the file and the fault.
    """
    try:
        facts = tomllib.loads(file.read_text(encoding="utf-8"))
        written = _File.model_validate(facts)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _unusable(file, str(error)) from None
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise _unusable(file, f"{where}: {fault['msg']}") from None
    cards = tuple(_card(each) for each in written.cards)
    for older, newer in pairwise(cards):
        if older.from_ms >= newer.from_ms:
            raise _unusable(file, f"card {newer.version} does not begin after {older.version}")
    if len({card.version for card in cards}) < len(cards):
        raise _unusable(file, "two cards have one version")
    return Rates(cards)


@cache
def shipped() -> Rates:
    """Return the rate cards that come with Framefarm."""
    return load(SHIPPED)


# --- inside -------------------------------------------------------------------------------

_Microusd = Annotated[int, Field(strict=True, ge=0, le=10**12)]


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class _Card(_Written):
    version: str = Field(min_length=1, max_length=40)
    first_day: date = Field(alias="from", strict=True)
    price: dict[str, _Microusd]
    cost: dict[str, _Microusd]


class _File(_Written):
    cards: list[_Card] = Field(min_length=1)


def _card(written: _Card) -> RateCard:
    begin = datetime.combine(written.first_day, time(), UTC)
    return RateCard(
        version=written.version,
        from_ms=round(begin.timestamp() * 1000),
        price=_complete(written.price),
        cost=_complete(written.cost),
    )


def _complete(amounts: dict[str, int]) -> dict[str, int]:
    """Return amounts with one for a class that is not named: the highest there is."""
    return {OTHERWISE: max(amounts.values(), default=0), **amounts}


def _unusable(file: Path, fault: object) -> BadRequest:
    return BadRequest(
        f"The rate card file {file} cannot be used: {fault}.",
        Say("Mend that line, or unset FARM_RATES to take the shipped one."),
    )
