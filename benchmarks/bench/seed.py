"""The three structured cases: 23, 48 and 68 tokens in, 46, 396 and 760 tokens out. Only valid answers count.

The upstream is scripted: of 20 answers 17 are valid, one is wrapped in a code fence, one breaks off and one
has a member of the wrong type. A hosted model needs seconds for such an answer; what is measured is what
the server adds to it, so the upstream answers at once.
"""

import asyncio
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import jsonschema_rs
import uvloop

from bench import bodies
from bench.client import Answer, Client
from bench.figures import percentile
from bench.processes import Running, cpu_s
from bench.results import Goal
from bench.scripted import Script, completion
from bench.streams import compose

WARM_UP_S = 0.3
"""The first request with a schema compiles it."""
CHARS_PER_TOKEN = 4
"""OpenAI's rule of thumb: platform.openai.com/tokenizer."""


def closed(**properties: Any) -> dict[str, Any]:
    """Return the schema of an object with exactly these members."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


TEXT = {"type": "string"}
NUMBER = {"type": "integer", "minimum": 0}
PERSON = closed(name=TEXT, age=NUMBER, email=TEXT, city=TEXT)
ORDER = closed(
    id=TEXT,
    customer=closed(
        name=TEXT, address=closed(street=TEXT, city=TEXT, zip=TEXT), tags={"type": "array", "items": TEXT}
    ),
    items={"type": "array", "items": closed(sku=TEXT, title=TEXT, count=NUMBER)},
    note=TEXT,
)
LIST = closed(people={"type": "array", "items": PERSON, "minItems": 1}, note=TEXT)
ADA = {"name": "Ada Lovelace", "age": 36, "email": "ada@example.org", "city": "London"}


class Case(NamedTuple):
    """A case: its tokens, in and out, its schema and an answer of about that length."""

    name: str
    tokens: tuple[int, int]
    schema: dict[str, Any]
    answer: dict[str, Any]

    def question(self, model: str) -> bytes:
        """Return the request; its prompt names the case, which the scripted upstream looks for."""
        prompt = f"Case {self.name}. " + bodies.FILLER * 9
        form = {"name": self.name, "strict": True, "schema": self.schema}
        return bodies.encode(
            {
                "model": model,
                "messages": [{"role": "user", "content": prompt[: self.tokens[0] * CHARS_PER_TOKEN]}],
                "response_format": {"type": "json_schema", "json_schema": form},
            }
        )


def padded(answer: dict[str, Any], member: str, tokens: int) -> dict[str, Any]:
    """Return ``answer`` with a text appended to a member, so that it is as long as that many tokens."""
    lacking = tokens * CHARS_PER_TOKEN - len(bodies.encode(answer))
    return {**answer, member: answer[member] + (bodies.FILLER * 20)[: max(0, lacking)]}


def cases() -> tuple[Case, ...]:
    """Return the three cases, their answers padded to their tokens."""
    item = {"sku": "SKU-0001-2026", "title": "A lamp for a desk, brass", "count": 2}
    address = {"street": "12 St James's Square", "city": "London", "zip": "SW1Y 4JH"}
    order = {
        "id": "A-1815-1852",
        "customer": {"name": "Ada Lovelace", "address": address, "tags": ["analytical", "engine", "notes"]},
        "items": [item] * 15,
        "note": "",
    }
    people = {"people": [ADA] * 36, "note": ""}
    return (
        Case("simple", (23, 46), PERSON, padded(ADA, "city", 46)),
        Case("nested", (48, 396), ORDER, padded(order, "note", 396)),
        Case("array", (68, 760), LIST, padded(people, "note", 760)),
    )


def script() -> Script:
    """Return what the upstream answers, by case; a model that is told what was wrong then gets it right."""
    answers = {}
    for case in cases():
        answers[f"Case {case.name}."] = told(case)
        answers[f"Case {case.name}.&&cannot be used"] = [
            completion(json.dumps(case.answer), tokens=case.tokens)
        ]
    return Script(answers)


def told(case: Case) -> list[dict[str, Any]]:
    """Return 20 answers, three of which are not valid as they are."""
    text = json.dumps(case.answer)
    first = next(iter(case.answer))
    wrong = json.dumps({**case.answer, first: {"unexpected": True}})
    odd = {4: f"Here it is:\n```json\n{text}\n```", 10: text[: len(text) // 2], 16: wrong}
    return [completion(odd.get(place, text), tokens=case.tokens) for place in range(20)]


def valid(answer: Answer, validator: Any) -> bool:
    """Say whether an answer is one that counts."""
    if answer.status != 200:
        return False
    try:
        return bool(
            validator.is_valid(json.loads(json.loads(answer.body)["choices"][0]["message"]["content"]))
        )
    except (ValueError, KeyError):
        return False


async def ask(url: str, request: bytes, *, connections: int, seconds: float) -> list[Answer]:
    """Keep ``connections`` requests on their way for ``seconds``."""
    loop = asyncio.get_running_loop()
    client, until = Client(url), loop.time() + seconds
    answers: list[Answer] = []

    async def caller() -> None:
        while loop.time() < until:
            answers.append(await client.ask(request))

    await asyncio.gather(*(caller() for _ in range(connections)))
    client.close()
    return answers


def measure(
    targets: Sequence[tuple[str, Running, str]], *, connections: int, seconds: float
) -> list[dict[str, Any]]:
    """Return a row for every case and target; a target is a name, a process and the model's name there."""
    rows = []
    for case in cases():
        validator = jsonschema_rs.validator_for(case.schema)
        for name, running, model in targets:
            request = compose(
                running.url, bodies.CHAT, case.question(model),
                {"content-type": "application/json", "authorization": bodies.KEY},
            )  # fmt: skip
            uvloop.run(ask(running.url, request, connections=1, seconds=WARM_UP_S))
            used = cpu_s(running.pid)
            answers = uvloop.run(ask(running.url, request, connections=connections, seconds=seconds))
            used = cpu_s(running.pid) - used
            good = [each.took_s for each in answers if valid(each, validator)]
            rows.append(
                {
                    "case": case.name,
                    "tokens": case.tokens,
                    "target": name,
                    "connections": connections,
                    "asked": len(answers),
                    "valid": len(good),
                    "cpu_ms": round(1000 * used / max(1, len(good)), 4),
                    "p50_ms": round(1000 * percentile(good, 0.5), 4),
                    "p95_ms": round(1000 * percentile(good, 0.95), 4),
                    "p99_ms": round(1000 * percentile(good, 0.99), 4),
                }
            )
            print(
                f"  {case.name:7} {name:7} {len(good)} of {len(answers)} valid, "
                f"p50 {rows[-1]['p50_ms']:.3f} ms, CPU {rows[-1]['cpu_ms']:.3f} ms"
            )
    return rows


def goals(rows: Sequence[dict[str, Any]]) -> list[Goal]:
    """Return what must be shown."""
    ours = [row for row in rows if row["target"] == "full"]
    share = sum(row["valid"] for row in ours) / max(1, sum(row["asked"] for row in ours))
    return [Goal("structured cases, valid answers", share, 1.0, "of those asked", most=False)]
