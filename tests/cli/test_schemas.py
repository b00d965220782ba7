"""``llm-server schemas`` on the database file and on a running server."""

import json
from pathlib import Path

import pytest

from tests.cli.programs import run, serving

MODEL = '''
from pydantic import BaseModel


class Person(BaseModel):
    """Somebody."""

    name: str
{more}

class Outer:
    Inner = Person


number = 7
'''


@pytest.fixture
def home(tmp_path: Path) -> Path:
    config = {"engine": {"enabled": False, "data_dir": str(tmp_path / "data")}, "discover": False}
    (tmp_path / "llm-server.yaml").write_text(json.dumps(config))
    (tmp_path / "shapes.py").write_text(MODEL.format(more=""))
    return tmp_path


async def test_schemas_are_kept_in_the_database_file(home: Path) -> None:
    assert await run(home, "schemas", "add", "shapes:Person", "--compatibility", "backward") == (
        0,
        "person version 1\n",
        "",
    )
    assert (home / "data" / "llm-server.db").exists()
    assert (await run(home, "schemas", "add", "shapes:Outer.Inner")).out == "person version 1\n"
    (home / "shapes.py").write_text(MODEL.format(more="    age: int\n"))
    refused = await run(home, "schemas", "add", "shapes:Person")
    assert (refused.status, refused.out) == (1, "")
    assert "required_added at /required" in refused.err
    assert "Traceback" not in refused.err
    forced = await run(home, "schemas", "add", "shapes:Person", "--compatibility", "none")
    assert forced.out == "person version 2\n"
    listed = await run(home, "schemas", "list")
    assert [word in listed.out for word in ("person", "Person", "2", "none")] == [True] * 4


async def test_schemas_are_kept_by_a_running_server(home: Path) -> None:
    (home / "point.json").write_text('{"type": "object", "properties": {"x": {"type": "number"}}}')
    async with serving(home) as server:
        url = ("--url", server.url)
        assert (await run(home, "schemas", "add", "point.json", *url)).out == "point version 1\n"
        shown = await run(home, "schemas", "show", "point", *url)
        assert json.loads(shown.out)["properties"] == {"x": {"type": "number"}}
        source = await run(home, "schemas", "show", "point", "--version", "1", "--as", "typescript", *url)
        assert "export interface Point {" in source.out
        gone = await run(home, "schemas", "remove", "point", "--version", "1", *url)
        assert gone.out == "point version 1 deleted\n"
        lost = await run(home, "schemas", "show", "point", *url)
        assert (lost.status, lost.err) == (1, "Schema 'point' was deleted.\n")


WILD = """
from pydantic import BaseModel

class Model(BaseModel, arbitrary_types_allowed=True):
    file: memoryview
"""


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("shapes", "write module:Model"),
        ("shapes:Nobody", "cannot be imported"),
        ("nowhere:Model", "cannot be imported"),
        ("failing:Model", "failing:Model cannot be imported: division by zero."),
        ("shapes:number", "is no Pydantic model"),
        ("wild:Model", "wild:Model has no JSON Schema: Cannot generate"),
        ("missing.json", "cannot be read"),
        ("broken.json", "cannot be read"),
        ("list.json", "it is no object"),
        ("wrong.json", "The schema is refused at #/type"),
    ],
)
async def test_what_cannot_be_added_is_said_in_a_line(home: Path, source: str, words: str) -> None:
    (home / "failing.py").write_text("1 / 0")
    (home / "wild.py").write_text(WILD)
    (home / "broken.json").write_text("{")
    (home / "list.json").write_text("[]")
    (home / "wrong.json").write_text('{"type": "strin"}')
    ended = await run(home, "schemas", "add", source)
    assert (ended.status, ended.out) == (1, "")
    assert words in ended.err
    assert ended.err.count("\n") == 1
