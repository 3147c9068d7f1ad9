"""Signs in the ledger's entries alone: money overspent, charged twice, and more.

Nothing here asks the code it judges: it is SQL over the rows, beside the checker of the farm.
"""

from collections import Counter
from typing import Any, Final

_CHARGED: Final = "CASE kind WHEN 'settle' THEN gpu_ms WHEN 'refund' THEN -gpu_ms ELSE 0 END"
_OVERSPENT: Final = f"""
SELECT
(SELECT TOTAL(MAX(0, used - given)) FROM (
  SELECT SUM(CASE WHEN kind IN ('grant', 'top_up') THEN gpu_ms
                  WHEN kind = 'take' THEN -gpu_ms ELSE 0 END) AS given,
         SUM(CASE WHEN kind IN ('place', 'extend') THEN gpu_ms
                  WHEN kind IN ('release', 'refund') THEN -gpu_ms ELSE 0 END) AS used
  FROM entries GROUP BY session_id))
+ (SELECT TOTAL(MAX(0, used - limit_gpu_ms)) FROM months JOIN (
  SELECT month_id, SUM({_CHARGED}) AS used FROM entries GROUP BY month_id)
  ON month_id = months.id WHERE limit_gpu_ms IS NOT NULL)
+ (SELECT TOTAL(MAX(0, used - cap_gpu_ms)) FROM jobs JOIN (
  SELECT job_id, SUM({_CHARGED}) AS used FROM entries GROUP BY job_id)
  ON job_id = jobs.id WHERE cap_gpu_ms IS NOT NULL)
+ (SELECT TOTAL(MAX(0, used - ceiling_gpu_ms)) FROM jobs JOIN (
  SELECT job_id, SUM({_CHARGED}) AS used FROM entries GROUP BY job_id)
  ON job_id = jobs.id WHERE ceiling_gpu_ms IS NOT NULL)
+ (SELECT TOTAL(MAX(0, used - limit_gpu_ms)) FROM allowances JOIN (
  SELECT key_id, SUM(CASE WHEN kind IN ('place', 'extend') THEN gpu_ms
                          WHEN kind IN ('release', 'refund') THEN -gpu_ms ELSE 0 END) AS used
  FROM entries JOIN jobs ON jobs.id = job_id GROUP BY key_id)
  ON key_id = allowances.id)
+ (SELECT TOTAL(MAX(0, gpu_ms - gpu_ms_limit)) FROM entries JOIN leases
  ON leases.id = lease_id WHERE entries.kind = 'settle')
"""
_CHARGED_TWICE: Final = """
SELECT
(SELECT TOTAL(together - most) FROM (
  SELECT SUM(gpu_ms) AS together, MAX(gpu_ms) AS most
  FROM entries WHERE kind = 'settle' GROUP BY lease_id))
+ (SELECT TOTAL(together - most) FROM (
  SELECT SUM(settled_gpu_ms) AS together, MAX(settled_gpu_ms) AS most
  FROM leases WHERE outcome = 'done' GROUP BY unit_id))
"""
_UNSEEN: Final = """
SELECT TOTAL(MAX(0, settled_gpu_ms + lost_gpu_ms - (resolved_at_ms - granted_at_ms)))
FROM leases WHERE resolved_at_ms IS NOT NULL
"""
_HAPPENED: Final = (
    "SELECT 'entry ' || kind, COUNT(*) FROM entries GROUP BY kind",
    "SELECT 'lease ' || state, COUNT(*) FROM leases GROUP BY state",
    "SELECT 'unit ' || outcome, COUNT(*) FROM leases WHERE outcome IS NOT NULL GROUP BY outcome",
    "SELECT 'job ' || state, COUNT(*) FROM jobs GROUP BY state",
    "SELECT 'job cut off', COUNT(*) FROM jobs WHERE truncated",
    "SELECT 'quote held', COUNT(*) FROM jobs WHERE state = 'succeeded' AND ceiling_gpu_ms > 0",
    "SELECT 'quote overrun', COUNT(*) FROM jobs WHERE over_quote_gpu_ms > 0",
    "SELECT 'quote run_away', COUNT(*) FROM jobs WHERE json_extract(error, '$.code') = 'ran_away'",
    "SELECT 'quote run_away_with_a_video', COUNT(*) FROM jobs WHERE ran_away "
    "AND state = 'succeeded'",
    "SELECT 'job of a bound key', COUNT(*) FROM jobs WHERE allowance_id IS NOT NULL",
    "SELECT 'job refunded', COUNT(*) FROM jobs WHERE refunded_gpu_ms > 0",
    "SELECT 'month turned', COUNT(DISTINCT substr(id, -7)) - 1 FROM months",
    "SELECT 'paused: ' || json_extract(data, '$.pause_reason'), COUNT(*) FROM events "
    "WHERE kind = 'state' AND json_extract(data, '$.pause_reason') IS NOT NULL GROUP BY 1",
)


def overspent_gpu_ms(raw: Any) -> int:
    """Return what sessions, months, keys, jobs and leases used beyond what they were given."""
    return int(raw.execute(_OVERSPENT).fetchone()[0])


def charged_twice_gpu_ms(raw: Any) -> int:
    """Return what was charged for a lease beside its one settlement, or for a unit done before."""
    return int(raw.execute(_CHARGED_TWICE).fetchone()[0])


def unseen_gpu_ms(raw: Any) -> int:
    """Return what was charged or lost beyond the time for which its lease was open."""
    return int(raw.execute(_UNSEEN).fetchone()[0])


def worker_states(raw: Any) -> list[str]:
    """Return the states that some worker is in."""
    return [f"worker {state}" for (state,) in raw.execute("SELECT DISTINCT state FROM workers")]


def happened(raw: Any) -> Counter[str]:
    """Return how often each thing that leaves a row came about."""
    counts: Counter[str] = Counter()
    for query in _HAPPENED:
        counts.update({name: int(count) for name, count in raw.execute(query)})
    return counts
