"""Write the table of packages in docs/architecture.md anew: `python -m tools.rooms`."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
TABLE = re.compile(r"(?<=<!-- rooms -->\n).*?(?=<!-- end of rooms -->)", re.DOTALL)


def main() -> None:
    """Draw the table and put it in its place."""
    PAGE.write_text(TABLE.sub(lambda _: table(), PAGE.read_text("utf-8")), encoding="utf-8")
    print(PAGE)


def table() -> str:
    """Return a row for each package: its modules, and the first sentence of its docstring."""
    rows = ["| package | is | modules |", "| --- | --- | --- |"]
    for room in ("web", "workers", "orchestrator"):
        for init in sorted((ROOT / room).rglob("__init__.py")):
            package = init.parent
            modules = sorted(f"`{each.stem}`" for each in package.glob("[!_]*.py"))
            name = ".".join(package.relative_to(ROOT).parts)
            rows.append(f"| `{name}` | {_first_sentence(init)} | {', '.join(modules)} |")
    return "\n".join(rows) + "\n"


def _first_sentence(file: Path) -> str:
    said = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    return " ".join(re.split(r"\n\n|\.(?=\s|$)", said)[0].split())


if __name__ == "__main__":
    main()
