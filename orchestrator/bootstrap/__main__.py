"""`python -m orchestrator.bootstrap`: a farm in the background; its first line says where it is."""

import argparse
import json

from orchestrator import bootstrap, logs, private_files
from orchestrator.errors import FarmError
from orchestrator.settings import settings


def main() -> None:
    """Start a farm, announce it on stdout as JSON, and tend it until a signal comes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    config = settings()
    private_files.keep_private()
    logs.configure(config)  # on stderr: nobody reads stdout once the farm is announced
    try:
        farm = bootstrap.start(
            config, workers=options.workers, host=options.host, port=options.port
        )
    except FarmError as error:
        told = {"code": error.code, "message": error.message, "advice": error.advice}
        print(json.dumps({"error": told}), flush=True)
        raise SystemExit(1) from None
    print(json.dumps(bootstrap.announcement(farm)), flush=True)
    if down := bootstrap.serve(farm):
        raise SystemExit(f"These processes ended too often: {', '.join(down)}.")


if __name__ == "__main__":
    main()
