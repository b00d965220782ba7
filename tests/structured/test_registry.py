"""The registry: ids, immutable versions, what a change owes, deletion, what is remembered."""

import asyncio
import time
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from llm_server.contract import (
    Compatibility,
    ErrorKind,
    RegisteredSchema,
    SchemaDraft,
    SchemaVersion,
    ServerError,
)
from llm_server.structured.registry import REMEMBERED_S, Registry
from llm_server.testing import FakeSchemas

NAME = {"name": {"type": "string"}}
AGE = {"age": {"type": "integer"}}


def closed(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def draft(schema: dict[str, Any], **said: Any) -> SchemaDraft:
    if "examples" in said:
        said["examples"] = tuple(Raw(msgspec.json.encode(each)) for each in said["examples"])
    return SchemaDraft(schema=Raw(msgspec.json.encode(schema)), **said)


class Clock:
    """Seconds that stand still until they are moved."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> FakeSchemas:
    return FakeSchemas()


@pytest.fixture
def registry(store: FakeSchemas, clock: Clock) -> Registry:
    return Registry(store.opened, clock)


async def refused(awaited: Any) -> ServerError:
    with pytest.raises(ServerError) as raised:
        await awaited
    return raised.value


@pytest.mark.parametrize(
    ("said", "schema_id"),
    [
        ({"name": "Invoice Line"}, "invoice-line"),
        ({"name": "  Ünïcode — näme!  "}, "unicode-name"),
        ({"name": "x" * 200}, "x" * 64),
        ({"name": "a" * 63 + " b"}, "a" * 63),
        ({"id": "My.Schema_1", "name": "Anything"}, "My.Schema_1"),
        ({}, "a-title"),
    ],
)
async def test_an_id_is_chosen_or_made_of_the_name(registry: Registry, said: Any, schema_id: str) -> None:
    entry = await registry.create(draft({"title": "A title"}, **said))
    assert (entry.about.id, entry.version.version, entry.added) == (schema_id, 1, True)


async def test_a_name_without_letters_makes_an_id_of_the_schema(registry: Registry) -> None:
    entry = await registry.create(draft({"type": "object"}, name="发票"))
    assert entry.about.id == f"schema-{entry.version.digest[:12]}"
    assert entry.about.name == "发票"


@pytest.mark.parametrize(
    "schema_id",
    ["a b", "-a", "../a", "a/b", "a" * 65, "a\n", "é", "'; DROP TABLE schemas;--", "\0", ".", "_"],
)
async def test_other_ids_are_refused_and_not_found(registry: Registry, schema_id: str) -> None:
    error = await refused(registry.create(draft({}, id=schema_id)))
    assert (error.kind, error.param) == (ErrorKind.INVALID_REQUEST, "id")
    error = await refused(registry.resolve(schema_id))
    assert error.kind is ErrorKind.NOT_FOUND


async def test_an_id_is_registered_once(registry: Registry) -> None:
    await registry.create(draft({}, id="a"))
    error = await refused(registry.create(draft({"type": "object"}, id="a")))
    assert (error.kind, error.param) == (ErrorKind.CONFLICT, "id")
    assert "PUT /v1/schemas/a" in error.message


async def test_a_schema_that_is_none_is_refused(registry: Registry) -> None:
    for schema in ({"type": "strin"}, {"$ref": "https://example.com/x"}, {"pattern": "("}):
        error = await refused(registry.create(draft(schema, id="a")))
        assert error.kind is ErrorKind.INVALID_REQUEST
    assert await registry.page("", 9) == ()


async def test_examples_are_held_to_the_schema(registry: Registry) -> None:
    schema = closed(NAME, "name")
    entry = await registry.create(draft(schema, id="a", examples=[{"name": "Ada"}]))
    assert [bytes(each) for each in entry.version.examples] == [b'{"name":"Ada"}']
    error = await refused(registry.change("a", draft(closed(NAME | AGE), examples=[{}, {"age": "x"}])))
    assert (error.kind, error.param) == (ErrorKind.INVALID_REQUEST, "examples[1]")
    assert [each.pointer for each in error.problems] == ["/1/age"]
    assert (await registry.find("a")).versions == (1,)


async def test_the_order_of_properties_is_kept(registry: Registry) -> None:
    text = b'{"type":"object","properties":{"z":{},"a":{}}}'
    await registry.create(SchemaDraft(schema=Raw(text), id="a"))
    assert bytes((await registry.resolve("a")).schema) == text


async def test_every_change_is_a_version_and_the_same_schema_is_none(registry: Registry) -> None:
    await registry.create(draft(closed(NAME), id="a", name="A"))
    second = await registry.change("a", draft(closed(AGE)))
    assert (second.version.version, second.added) == (2, True)
    spelled = dict(reversed(closed(AGE).items()))
    same = await registry.change("a", draft(spelled, description="Said anew.", examples=[{"age": 1}]))
    assert (same.version.version, same.added) == (2, False)
    found = await registry.find("a")
    assert (found.versions, found.name, found.description) == ((1, 2), "A", "Said anew.")
    assert bytes((await registry.show("a", 2)).version.examples[0]) == b'{"age":1}'
    back = await registry.change("a", draft(closed(NAME)))
    assert (back.version.version, back.added) == (3, True), "an older schema is a new version"
    assert [(await registry.resolve("a", each)).digest for each in (1, 3)] == [back.version.digest] * 2


async def test_pinned_and_latest(registry: Registry) -> None:
    await registry.create(draft(closed(NAME), id="a"))
    await registry.change("a", draft(closed(AGE)))
    assert (await registry.resolve("a")).version == 2
    assert (await registry.resolve("a", 1)).version == 1
    error = await refused(registry.resolve("a", 7))
    assert (error.kind, error.param) == (ErrorKind.NOT_FOUND, "schema_id")
    assert error.message == "Schema 'a' has no version 7; it has: 1, 2."


async def test_a_deleted_version_is_named_as_such_and_its_number_never_used_again(registry: Registry) -> None:
    await registry.create(draft(closed(NAME), id="a"))
    await registry.change("a", draft(closed(AGE)))
    assert (await registry.resolve("a")).version == 2
    assert await registry.remove("a", 2) == 1
    assert (await registry.resolve("a")).version == 1, "at once, though it was remembered"
    error = await refused(registry.resolve("a", 2))
    assert (error.kind, error.message) == (ErrorKind.NOT_FOUND, "Version 2 of schema 'a' was deleted.")
    assert (await registry.change("a", draft(closed(AGE)))).version.version == 3
    assert await registry.remove("a") == 2
    for call in (registry.resolve("a"), registry.resolve("a", 1), registry.remove("a"), registry.find("a")):
        error = await refused(call)
        assert (error.kind, error.message) == (ErrorKind.NOT_FOUND, "Schema 'a' was deleted.")
    again = await registry.create(draft(closed(NAME), id="a", name="Again"))
    assert (again.version.version, (await registry.find("a")).versions) == (4, (4,))


@pytest.mark.parametrize(
    ("mode", "change", "names"),
    [
        ("backward", closed(NAME | AGE, "name", "age"), {"required_added"}),
        ("backward", closed(NAME | AGE, "name"), set()),
        ("backward", closed(NAME), set()),
        ("backward", closed(AGE), {"property_removed"}),
        ("forward", closed(NAME | AGE, "name"), {"property_removed"}),
        ("forward", closed(NAME), {"required_added"}),
        ("full", closed(NAME | AGE, "name"), {"property_removed"}),
        ("full", {**closed(NAME, "name"), "title": "Other words"}, set()),
        ("none", closed(AGE, "age"), set()),
    ],
)
async def test_a_mode_is_enforced(registry: Registry, mode: str, change: Any, names: set[str]) -> None:
    await registry.create(draft(closed(NAME, "name"), id="a", compatibility=Compatibility(mode)))
    if not names:
        assert (await registry.change("a", draft(change))).version.version == 2
        return
    error = await refused(registry.change("a", draft(change)))
    assert (error.kind, error.param) == (ErrorKind.CONFLICT, "schema")
    assert {each.keyword for each in error.problems} == names
    assert next(iter(names)) in error.message
    assert (await registry.find("a")).versions == (1,)
    anew = await registry.change("a", draft(change, compatibility=Compatibility.NONE))
    assert (anew.version.version, anew.about.compatibility) == (2, Compatibility.NONE)


async def test_versions_are_compared(registry: Registry) -> None:
    await registry.create(draft(closed(NAME), id="a"))
    await registry.change("a", draft(closed(NAME | AGE)))
    found = await registry.compare("a", 1, 2)
    assert found.backward == ()
    assert [(each.pointer, each.keyword) for each in found.forward] == [
        ("/properties/age", "property_removed")
    ]
    assert await registry.compare("a", 2, 1) == msgspec.structs.replace(
        found, backward=found.forward, forward=found.backward
    )


async def test_two_writers_never_make_the_same_version(registry: Registry, store: FakeSchemas) -> None:
    await registry.create(draft({}, id="a"))
    other = Registry(store.opened)
    titles = [f"T{at}" for at in range(30)]
    writers = [registry, other]
    made = await asyncio.gather(
        *(writers[at % 2].change("a", draft({"title": title})) for at, title in enumerate(titles))
    )
    assert sorted(each.version.version for each in made) == list(range(2, 32))
    for entry in made:
        assert (await registry.resolve("a", entry.version.version)).digest == entry.version.digest


async def test_a_writer_that_was_overtaken_is_judged_by_the_version_that_overtook(
    registry: Registry, store: FakeSchemas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was compatible with version 1 need not be with version 2, which came in between."""
    await registry.create(draft(closed(NAME), id="a", compatibility=Compatibility.BACKWARD))
    other = Registry(store.opened)
    found = store.add

    async def overtaken(about: RegisteredSchema, version: SchemaVersion) -> bool:
        monkeypatch.undo()
        await other.change("a", draft(closed(NAME | AGE)))
        return await found(about, version)

    monkeypatch.setattr(store, "add", overtaken)
    text = {"note": {"type": "string"}}
    error = await refused(registry.change("a", draft(closed(NAME | text))))
    assert error.kind is ErrorKind.CONFLICT
    assert [each.pointer for each in error.problems] == ["/properties/age"]


async def test_what_another_process_changed_shows_after_a_moment(
    registry: Registry, store: FakeSchemas, clock: Clock
) -> None:
    await registry.create(draft(closed(NAME), id="a"))
    await registry.resolve("a")
    await registry.resolve("a", 1)
    other = Registry(store.opened, clock)
    await other.change("a", draft(closed(AGE)))
    await other.remove("a", 1)
    clock.now += REMEMBERED_S
    assert (await registry.resolve("a")).version == 2
    assert (await refused(registry.resolve("a", 1))).kind is ErrorKind.NOT_FOUND


async def test_a_remembered_version_costs_no_look_into_the_store(clock: Clock) -> None:
    opened = 0
    store = FakeSchemas()

    async def opening() -> FakeSchemas:
        nonlocal opened
        opened += 1
        return store

    registry = Registry(opening, clock)
    await registry.create(draft({}, id="a"))
    await registry.resolve("a")
    before = opened
    for _ in range(100):
        await registry.resolve("a")
    assert opened == before


async def test_a_thousand_schemas_are_remembered_within_bounds(registry: Registry) -> None:
    for at in range(1100):
        await registry.create(draft({"title": f"T{at}"}, id=f"s{at}"))
        await registry.resolve(f"s{at}")
        await registry.resolve(f"s{at}", 1)
    assert len(registry._recent) <= 1024


async def test_the_loop_is_not_held_up_by_a_large_schema(registry: Registry) -> None:
    """While a schema at the limit is checked and compared, others are served."""
    properties = {f"property{at}": {"type": "string", "minLength": at % 7} for at in range(900)}
    narrower = {name: {**each, "maxLength": 5} for name, each in properties.items()}
    await registry.create(draft(closed(properties), id="a", compatibility=Compatibility.BACKWARD))
    turns, done = 0, False

    async def others() -> None:
        nonlocal turns
        while not done:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    error = await refused(registry.change("a", draft(closed(narrower))))
    done = True
    await task
    assert len(error.problems) == 100
    assert turns > 3


def test_the_clock_of_the_machine_is_the_default() -> None:
    registry = Registry(FakeSchemas().opened)
    assert abs(registry._clock() - time.time()) < 60
