"""`farm doctor`: what this machine has, what is broken, and how to mend it."""

from dataclasses import asdict

import rich_click as click

from orchestrator.cli import output

SIGNS = {"ok": "ok     ", "warning": "warning", "broken": "BROKEN "}


@click.command()
@click.option("--fix", is_flag=True, help="Mend what can be mended safely: folders and rights.")
@output.as_json
def doctor(fix: bool, as_json: bool) -> int:
    """Check this machine; exit code 1 when something is broken."""
    from orchestrator.cli import checks

    findings = checks.examine(fix=fix)
    broken = [finding for finding in findings if finding.state == "broken"]
    if as_json:
        output.document({"ok": not broken, "checks": [asdict(finding) for finding in findings]})
        return output.FAILED if broken else 0
    for finding in findings:
        output.echo(f"{SIGNS[finding.state]}  {finding.name}: {finding.found}")
        if finding.mend:
            output.echo(f"         Next: {finding.mend}")
    if broken:
        output.say(f"{len(broken)} of {len(findings)} checks failed; mend them and run it again.")
    else:
        output.say("This machine can run a farm.")
    return output.FAILED if broken else 0
