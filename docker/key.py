"""Print an admin key and a sign-in link of the farm that this process's settings describe.

Run it where the database can be reached; it needs no key. Each run ends the key and the link
that the run before it made.
"""

from orchestrator.farm.accounts import accounts, opening
from orchestrator.settings import settings
from orchestrator.states import KeyKind
from orchestrator.wiring import farm_from

farm = farm_from(settings())
opening.open_home(farm)
owner = accounts.first(farm).id
for kind in (KeyKind.ADMIN, KeyKind.SIGNIN):
    token = opening.replace_key(farm, account_id=owner, kind=kind, name="made by docker/key.py")
    print(token if kind is KeyKind.ADMIN else f"/sign-in/{token}")
