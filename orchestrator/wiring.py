"""The farm in hand: store, models, clock and terms put together from the settings."""

import time

from orchestrator import catalog
from orchestrator.farm import Farm, Terms
from orchestrator.money import plans, rates
from orchestrator.settings import Settings, networks
from orchestrator.store import migrate, open_store
from orchestrator.webhooks.addresses import Rules


def now_ms() -> int:
    """Return the farm's clock: milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def webhook_rules(settings: Settings) -> Rules:
    """Return where webhooks may go."""
    return Rules(http=settings.webhook_http, networks=networks(settings.webhook_networks))


def farm_from(settings: Settings, *, upgrade: bool = True) -> Farm:
    """Open the farm that these settings describe; `upgrade`: bring its tables up to date first."""
    if upgrade:
        migrate(settings.sql_url)
    folders = [catalog.bundled_models()]
    if settings.models_path:
        folders.append(settings.models_path)
    return Farm(
        store=open_store(settings.sql_url),
        catalog=catalog.load(*folders, fake=settings.fake_model),
        clock=now_ms,
        plans=plans.load(settings.plans) if settings.plans else plans.shipped(),
        rates=rates.load(settings.rates) if settings.rates else rates.shipped(),
        terms=Terms(**{name: getattr(settings, name) for name in Terms.__dataclass_fields__}),
    )
