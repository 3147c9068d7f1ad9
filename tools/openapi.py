"""Write docs/openapi.json anew: `python -m tools.openapi`."""

import json
import tempfile
from pathlib import Path

from orchestrator.settings import Settings
from web.app import create_app


def main() -> None:
    """Ask the application what it says of itself and keep it."""
    with tempfile.TemporaryDirectory() as home:
        client = create_app(config=Settings(home=Path(home))).test_client()
        document = client.get("/openapi/openapi.json").get_json()
    file = Path(__file__).parents[1] / "docs" / "openapi.json"
    file.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(file)


if __name__ == "__main__":
    main()
