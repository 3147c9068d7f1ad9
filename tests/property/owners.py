"""Those who pay in a simulation: they top up, lower, close, warn, and bind a key."""

import contextlib
import random
from collections.abc import Mapping

from orchestrator.errors import BadRequest
from orchestrator.farm import Farm
from orchestrator.farm.accounts import accounts, allowances, keys, sessions
from orchestrator.model import Alert, Key
from orchestrator.states import AlertAction


class Owners:
    """Acts of owners on their sessions, plans and keys; each act is one event of a history."""

    random: random.Random
    farm: Farm
    owners: Mapping[str, str]
    """Account of each session, by the session's name."""
    key: Key
    """The newest of the keys that have an allowance together."""

    def session(self) -> str:
        """Return the id of one of the sessions."""
        name = self.random.choice("abc")
        return sessions.find(self.farm, self.owners[name], name).id

    def top_up(self) -> None:
        """An owner adds budget."""
        sessions.top_up(self.farm, None, self.session(), self.random.randrange(1, 12_000))

    def warn(self) -> None:
        """An owner gives a session alerts of its own, or takes them away."""
        percents = sorted(self.random.sample(range(1, 101), 3))
        own = tuple(Alert(each, self.random.choice(list(AlertAction))) for each in percents)
        sessions.set_alerts(self.farm, None, self.session(), self.random.choice([own, None, None]))

    def lower(self) -> None:
        """An owner lowers a session's limit."""
        with contextlib.suppress(BadRequest):
            sessions.lower(self.farm, None, self.session(), self.random.randrange(20_000))

    def close_or_reopen(self) -> None:
        """An owner closes a session for a while."""
        verb = self.random.choice([sessions.close, sessions.reopen, sessions.reopen])
        verb(self.farm, None, self.session())

    def change_allowance(self) -> None:
        """An owner gives the bound key another allowance, or a successor that goes on with it."""
        if self.random.random() < 0.2:
            self.key, _ = keys.rotate(self.farm, None, self.key.id, keep_seconds=60)
            return
        with contextlib.suppress(BadRequest):
            allowances.change(self.farm, None, self.key.id, self.random.randrange(1, 60_000))

    def change_plan(self) -> None:
        """An operator gives an account another plan, or takes it away for a while."""
        plan = self.random.choice(["studio", "studio", "tight", "tight", accounts.NO_PLAN])
        accounts.set_plan(self.farm, self.owners[self.random.choice("ac")], plan)
