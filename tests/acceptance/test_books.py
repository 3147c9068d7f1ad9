"""The books of a real farm: looked at while it runs, and found out when somebody forged them."""

import json

import pysqlite3.dbapi2 as sqlite
import pytest

from tests.acceptance.conftest import Cli, until


@pytest.mark.slow(15)
def test_a_forgery_is_broken_to_the_doctor_and_shown_by_status(cli: Cli) -> None:
    """`farm doctor` is content beside a running farm; after a forgery it exits with 1, and the
    dispatcher's next look stands in `farm status`."""
    cli.json("up", "--detach", "--workers", "0")
    checks = json.loads(cli("doctor", "--json").stdout)["checks"]
    assert [each["state"] for each in checks if each["name"] == "ledger"] == ["ok"]
    until(lambda: cli.json("status")["checks"]["at"])
    assert cli.json("status")["checks"]["faults"] == 0
    assert "no fault, looked at 20" in cli("status").stdout
    cli("down")
    with sqlite.connect(cli.home / "farm.sqlite") as connection:
        connection.execute("DROP TRIGGER entries_no_update")
        connection.execute("UPDATE entries SET gpu_ms = gpu_ms + 1 WHERE number = 1")
    connection.close()
    doctor = cli("doctor")
    assert doctor.returncode == 1
    assert "breaks at entry ent_" in doctor.stdout
    assert "entries_no_update" in doctor.stdout
    cli.json("up", "--detach", "--workers", "0")
    until(lambda: cli.json("status")["checks"]["faults"])
    said = cli("status")
    cli("down")
    assert said.returncode == 0
    assert "breaks at entry ent_" in said.stderr
    assert "farm doctor" in said.stderr
