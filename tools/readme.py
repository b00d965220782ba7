"""Write the README's table of providers from the rows that the server knows; ``--check`` only compares."""

import re
import sys
from pathlib import Path

from llm_server.providers.row import Row
from llm_server.providers.rows import ROWS

README = Path(__file__).resolve().parents[1] / "README.md"
PLACE = re.compile(r"(<!-- providers: [^\n]*-->\n).*?(<!-- /providers -->)", re.DOTALL)
HEAD = "| name | provider | set | answers | speaks |\n|---|---|---|---|---|\n"


def line(row: Row) -> str:
    """Return a provider's line: its name and title, the variables that enable it, what it does and speaks."""
    wanted = {"key": row.key_env, "url": row.url_env}
    variables = " and ".join(" or ".join(f"`{name}`" for name in wanted[need]) for need in row.needs)
    facts = {"chat": row.facts.chat, "completions": row.facts.completions, "embeddings": row.facts.embeddings}
    answers = ", ".join(name for name, has in facts.items() if has)
    return f"| `{row.name}` | {row.title} | {variables} | {answers} | {row.dialect} |\n"


def written(text: str) -> str:
    """Return the README ``text`` with the table as it should be."""
    table = HEAD + "".join(line(row) for row in ROWS.values())
    return PLACE.sub(lambda found: f"{found[1]}\n{table}\n{found[2]}", text)


def main() -> int:
    """Write the table, or with ``--check`` say whether it is current; return the exit status."""
    text = README.read_text(encoding="utf-8")
    current = written(text)
    if "--check" in sys.argv[1:]:
        return int(text != current)
    README.write_text(current, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
