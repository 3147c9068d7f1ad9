"""`python -m orchestrator.cli`: the same as `farm`."""

from orchestrator.cli import main

main()
