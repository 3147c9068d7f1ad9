"""The audit log and the brake over HTTP."""

from flask.testing import FlaskClient

from orchestrator.farm import Farm
from orchestrator.farm.accounts import keys
from orchestrator.states import KeyKind
from tests.factories import Clock, Hand, submit
from tests.web.conftest import Caller


def test_the_log_names_key_and_address(caller: Caller, web_farm: Farm) -> None:
    """An admin's action over the API is logged with the key's id and where it came from."""
    admin = caller(KeyKind.ADMIN)
    mine = next(k.id for k in keys.listing(web_farm, None) if k.kind is KeyKind.ADMIN)
    made = admin.post("/api/v1/keys", json={"name": "n"}).get_json()
    admin.delete(f"/api/v1/keys/{made['id']}")
    newest = admin.get("/api/v1/audit?limit=2").get_json()["data"]
    assert [(d["verb"], d["target"]) for d in newest] == [
        ("key.revoke", made["id"]),
        ("key.create", made["id"]),
    ]
    assert {(d["key_id"], d["source"]) for d in newest} == {(mine, "127.0.0.1")}
    assert made["token"] not in admin.get("/api/v1/audit").text


def test_the_log_is_read_part_by_part(caller: Caller) -> None:
    """Pages of the log follow each other by cursor, each line once."""
    admin = caller(KeyKind.ADMIN)
    for number in range(5):
        admin.post("/api/v1/sessions", json={"name": f"s{number}", "budget_gpu_seconds": 1})
    path, seen = "/api/v1/audit?limit=2&verb=session.create", []
    cursor = ""
    while True:
        page = admin.get(path + cursor).get_json()
        seen += [d["id"] for d in page["data"]]
        if not page["next_cursor"]:
            break
        cursor = f"&after={page['next_cursor']}"
    assert len(seen) == len(set(seen)) == 5
    assert seen == sorted(seen, reverse=True)


def test_only_an_operator_reads_the_log_and_brakes(api: FlaskClient) -> None:
    """A user key gets neither."""
    assert api.get("/api/v1/audit").status_code == 403
    assert api.put("/api/v1/freeze", json={"frozen": True}).status_code == 403
    assert api.get("/api/v1/freeze").get_json() == {"frozen": False}


def test_the_brake_stops_all_grants(caller: Caller, web_farm: Farm, clock: Clock) -> None:
    """Frozen, nothing is granted; thawed, work goes on."""
    admin, hand = caller(KeyKind.ADMIN), Hand(web_farm, clock)
    submit(web_farm)
    assert admin.put("/api/v1/freeze", json={"frozen": True}).get_json() == {"frozen": True}
    assert hand.claim() is None
    assert admin.get("/api/v1/freeze").get_json() == {"frozen": True}
    admin.put("/api/v1/freeze", json={"frozen": False})
    assert hand.claim()


def test_a_session_is_closed(api: FlaskClient) -> None:
    """A closed session says so and refuses jobs with a next step."""
    made = api.post("/api/v1/sessions", json={"name": "s", "budget_gpu_seconds": 100}).get_json()
    assert api.post(f"/api/v1/sessions/{made['id']}/close").get_json()["state"] == "closed"
    refused = api.post("/api/v1/jobs", json={"prompt": "a cat", "session_id": "s"})
    assert (refused.status_code, refused.get_json()["code"]) == (409, "conflict")
    assert refused.get_json()["next"]
