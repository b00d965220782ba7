"""The schema registry over HTTP."""

import asyncio
import io
import json
from typing import Any

import aiohttp
import pytest
from yarl import URL

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name"],
    "additionalProperties": False,
}
WIDER = {**PERSON, "properties": {**PERSON["properties"], "note": {"type": "string"}}}
STRICTER = {**PERSON, "required": ["name", "age"]}


async def ask(client: aiohttp.ClientSession, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Return the status and the parsed body of an answer; every error is in OpenAI's form."""
    async with client.request(method, path, json=body) as response:
        text = await response.text()
    if response.status >= 400:
        error = json.loads(text)["error"]
        assert error.keys() >= {"message", "type", "param", "code"}
        assert response.headers["x-request-id"]
        return response.status, error
    return response.status, json.loads(text) if response.content_type == "application/json" else text


async def test_the_life_of_a_schema(client: aiohttp.ClientSession) -> None:
    new = {"name": "A Person", "description": "Who.", "schema": PERSON, "examples": [{"name": "Ada"}]}
    status, made = await ask(client, "POST", "/v1/schemas", new)
    assert status == 201
    stable = {key: each for key, each in made.items() if not key.endswith("created_at")}
    assert stable == {
        "object": "schema",
        "id": "a-person",
        "name": "A Person",
        "description": "Who.",
        "compatibility": "none",
        "latest_version": 1,
        "versions": [1],
        "version": 1,
        "schema": PERSON,
        "examples": [{"name": "Ada"}],
        "digest": made["digest"],
    }
    assert list(made["schema"]["properties"]) == ["name", "age"]
    assert await ask(client, "GET", "/v1/schemas/a-person") == (200, made)
    assert await ask(client, "GET", "/v1/schemas/a-person/versions/1") == (200, made)
    status, second = await ask(client, "PUT", "/v1/schemas/a-person", {"schema": WIDER})
    assert (status, second["version"], second["versions"]) == (201, 2, [1, 2])
    status, same = await ask(client, "PUT", "/v1/schemas/a-person", {"schema": WIDER, "name": "B"})
    assert (status, same["version"], same["name"]) == (200, 2, "B")
    status, first = await ask(client, "GET", "/v1/schemas/a-person/versions/1")
    assert (first["schema"], first["latest_version"]) == (PERSON, 2)
    assert (await ask(client, "GET", "/v1/schemas/a-person/versions/latest"))[1]["version"] == 2
    status, gone = await ask(client, "DELETE", "/v1/schemas/a-person/versions/2")
    assert gone == {"object": "schema.deleted", "id": "a-person", "version": 2, "deleted": True}
    status, error = await ask(client, "GET", "/v1/schemas/a-person/versions/2")
    assert (status, error["message"]) == (404, "Version 2 of schema 'a-person' was deleted.")
    assert (await ask(client, "GET", "/v1/schemas/a-person"))[1]["version"] == 1
    status, gone = await ask(client, "DELETE", "/v1/schemas/a-person")
    assert gone == {"object": "schema.deleted", "id": "a-person", "version": None, "deleted": True}
    status, error = await ask(client, "GET", "/v1/schemas/a-person")
    assert (status, error["code"], error["param"]) == (404, "not_found", "schema_id")
    assert (await ask(client, "DELETE", "/v1/schemas/a-person"))[0] == 404


async def test_a_mode_is_enforced_with_the_list_of_changes(client: aiohttp.ClientSession) -> None:
    await ask(client, "POST", "/v1/schemas", {"id": "p", "schema": PERSON, "compatibility": "backward"})
    status, error = await ask(client, "PUT", "/v1/schemas/p", {"schema": STRICTER})
    assert (status, error["code"], error["param"]) == (409, "conflict", "schema")
    assert error["problems"] == [
        {"pointer": "/required", "keyword": "required_added", "expected": "optional", "found": '"age"'}
    ]
    assert (await ask(client, "PUT", "/v1/schemas/p", {"schema": WIDER}))[0] == 201


async def test_versions_are_compared(client: aiohttp.ClientSession) -> None:
    await ask(client, "POST", "/v1/schemas", {"id": "p", "schema": PERSON})
    await ask(client, "PUT", "/v1/schemas/p", {"schema": WIDER})
    await ask(client, "PUT", "/v1/schemas/p", {"schema": STRICTER})
    _, report = await ask(client, "GET", "/v1/schemas/p/compatibility?from=1&to=2")
    assert report == {
        "id": "p",
        "from": 1,
        "to": 2,
        "backward_compatible": True,
        "forward_compatible": False,
        "backward_breaking": [],
        "forward_breaking": [
            {
                "pointer": "/properties/note",
                "change": "property_removed",
                "before": '{"type":"string"}',
                "after": "false",
            }
        ],
    }
    _status, latest = await ask(client, "GET", "/v1/schemas/p/compatibility")
    assert (latest["from"], latest["to"]) == (2, 3)
    names = [each["change"] for each in latest["backward_breaking"]]
    assert names == ["required_added", "property_removed"]
    assert (await ask(client, "GET", "/v1/schemas/p/compatibility?from=1&to=9"))[0] == 404
    for wrong in ("from=0", "to=x", "from=1&to=99999999999999999999"):
        assert (await ask(client, "GET", f"/v1/schemas/p/compatibility?{wrong}"))[0] == 400


async def test_types_are_rendered(client: aiohttp.ClientSession) -> None:
    await ask(client, "POST", "/v1/schemas", {"id": "p", "name": "A person", "schema": PERSON})
    status, source = await ask(client, "GET", "/v1/schemas/p/versions/1?as=pydantic")
    assert (status, "class APerson(BaseModel):" in source) == (200, True)
    status, source = await ask(client, "GET", "/v1/schemas/p/versions/latest?as=typescript")
    assert (status, "export interface APerson {" in source) == (200, True)
    status, error = await ask(client, "GET", "/v1/schemas/p/versions/1?as=cobol")
    assert (status, error["param"]) == (400, "as")


async def test_lists_are_paged(client: aiohttp.ClientSession) -> None:
    for at in range(7):
        await ask(client, "POST", "/v1/schemas", {"id": f"s{at}", "schema": {}})
    seen, path = [], "/v1/schemas?limit=3"
    while True:
        _, page = await ask(client, "GET", path)
        assert "schema" not in page["data"][0]
        seen += [each["id"] for each in page["data"]]
        if not page["has_more"]:
            break
        path = f"/v1/schemas?limit=3&after={page['last_id']}"
    assert seen == [f"s{at}" for at in range(7)]
    _, empty = await ask(client, "GET", "/v1/schemas?after=s6")
    assert empty == {"object": "list", "data": [], "has_more": False, "last_id": None}
    assert (await ask(client, "GET", "/v1/schemas?after="))[1]["data"][0]["id"] == "s0"


@pytest.mark.parametrize("nonsense", ["s", "S0", "s00", "z", "..", "0"])
async def test_a_place_in_the_list_is_a_schema_or_was_one(
    client: aiohttp.ClientSession, nonsense: str
) -> None:
    for schema_id in ("s0", "s1"):
        await ask(client, "POST", "/v1/schemas", {"id": schema_id, "schema": {}})
    status, error = await ask(client, "GET", f"/v1/schemas?after={nonsense}")
    assert (status, error["code"], error["param"]) == (404, "not_found", "after")
    await ask(client, "DELETE", "/v1/schemas/s0")
    _, page = await ask(client, "GET", "/v1/schemas?after=s0")
    assert [each["id"] for each in page["data"]] == ["s1"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "schema"),
        ({"schema": True}, "schema"),
        ({"schema": {"type": "strin"}, "id": "a"}, "#/type"),
        ({"schema": {}, "id": "a/b"}, "id"),
        ({"schema": {}, "id": "x'; DROP TABLE schemas;--"}, "id"),
        ({"schema": {}, "id": 7}, "id"),
        ({"schema": {}, "ID": "a"}, "ID"),
        ({"schema": {}, "name": ""}, "name"),
        ({"schema": {}, "name": "x" * 201}, "name"),
        ({"schema": {}, "name": "a\0b"}, "name"),
        ({"schema": {}, "name": "a\ud800"}, ""),
        ({"schema": {"title": "a\ud800"}, "id": "a"}, ""),
        ({"schema": {"\udfff": {}}, "id": "a"}, ""),
        ({"schema": {}, "id": "a", "examples": ["\ud800"]}, ""),
        ({"schema": {"type": "object"}, "id": "a", "examples": [1]}, "examples[0]"),
        ({"schema": {}, "id": "a", "examples": [1] * 17}, "examples"),
        ({"schema": {}, "id": "a", "compatibility": "sideways"}, "compatibility"),
        ({"schema": {"$ref": "file:///etc/passwd"}, "id": "a"}, "#"),
        ({"schema": {"pattern": "x" * 600}, "id": "a"}, "#"),
        ({"schema": {"description": "x" * 300_000}, "id": "a"}, "#"),
    ],
)
async def test_what_is_wrong_is_a_clear_400(client: aiohttp.ClientSession, body: Any, param: str) -> None:
    status, error = await ask(client, "POST", "/v1/schemas", body)
    assert status == 400
    assert (error["param"] or "").startswith(param)
    assert len(error["message"]) < 1000
    assert (await ask(client, "GET", "/v1/schemas"))[1]["data"] == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b'{"schema": ' + b"[" * 500_000,
        b'{"schema": {}, "id": "a", "examples": [' + b"9" * 5000 + b"]}",
        b"\xff\xfe",
        b'{"schema": {"minimum": NaN}, "id": "a"}',
    ],
)
async def test_what_is_no_json_is_a_400(client: aiohttp.ClientSession, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    async with client.post("/v1/schemas", data=body, headers=headers) as response:
        error = (await response.json())["error"]
    assert (response.status, error["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize("path", ["/v1/schemas", "/v1/schemas/infer", "/v1/structured-completions"])
async def test_large_bodies_are_refused_announced_or_not(client: aiohttp.ClientSession, path: str) -> None:
    async def pieces() -> Any:
        for _ in range(160):
            yield b" " * 65536

    for data in (io.BytesIO(b" " * 10_485_760), pieces()):
        async with client.post(path, data=data, headers={"content-type": "application/json"}) as response:
            error = (await response.json())["error"]
        assert (response.status, error["code"]) == (413, "request_too_large")


@pytest.mark.parametrize(
    "name",
    [
        "x'%20OR%201=1--",
        "%00",
        "a%0ab",
        "%F0%9F%98%80",
        "..",
        "%2e%2e%2fetc",
        "a" * 5000,
        "%ff",
        "%25",
        "a%5c",
    ],
)
async def test_hostile_names_are_not_found(client: aiohttp.ClientSession, name: str) -> None:
    for end in ("", "/versions/1", "/compatibility"):
        async with client.get(URL(f"/v1/schemas/{name}{end}", encoded=True)) as response:
            assert response.status == 404
            assert len(await response.read()) < 1000


@pytest.mark.parametrize("version", ["0", "-1", "1.0", "01", "x", "9999999999", "latest2", "%00"])
async def test_versions_are_numbers_or_latest(client: aiohttp.ClientSession, version: str) -> None:
    await ask(client, "POST", "/v1/schemas", {"id": "p", "schema": PERSON})
    status, error = await ask(client, "GET", f"/v1/schemas/p/versions/{version}")
    assert (status, error["param"]) == (400, "version")


async def test_writers_at_once_never_make_the_same_version(client: aiohttp.ClientSession) -> None:
    await ask(client, "POST", "/v1/schemas", {"id": "p", "schema": {}})
    bodies = [{"schema": {"title": f"T{at}"}} for at in range(24)]
    made = await asyncio.gather(*(ask(client, "PUT", "/v1/schemas/p", body) for body in bodies))
    assert {status for status, _ in made} == {201}
    assert sorted(body["version"] for _, body in made) == list(range(2, 26))
    assert sorted(body["schema"]["title"] for _, body in made) == sorted(f"T{at}" for at in range(24))
    posted = [ask(client, "POST", "/v1/schemas", {"id": "q", "schema": body["schema"]}) for body in bodies]
    statuses = [status for status, _ in await asyncio.gather(*posted)]
    assert (statuses.count(201), statuses.count(409)) == (1, 23)
