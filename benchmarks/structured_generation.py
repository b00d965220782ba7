"""What a small model writes when it is held to real schemas: the embedded engine behind our structured stage.

Schemas are drawn from JSONSchemaBench (see ``structured.py``), as many of each category. Each is asked for
once, at one attempt, with as many requests at once as the engine has slots. An answer that ends within the
limit of tokens is ``valid``, ``invalid`` (the stage says so, with an error) or ``passed``: reported as valid,
and not so when it is validated here, by the schema as it was sent.
``cut off``: the limit of tokens came first, which is reported as that. ``refused``: the schema is an error.
"""

import argparse
import asyncio
import os
import random
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import jsonschema_rs
import msgspec
from grammars.page import table, write
from grammars.schemas import Case, read
from msgspec import Raw

from llm_server.contract import (
    ChatCall,
    Completion,
    Context,
    ErrorKind,
    Message,
    OutputFormat,
    Role,
    Sampling,
    ServerError,
    State,
    Text,
)
from llm_server.engine import EngineConfig, ModelConfig, install
from llm_server.engine.provider import EngineProvider
from llm_server.structured.config import StructuredConfig
from llm_server.structured.stage import Structured

MODEL = "smollm2-135m"
DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "jsonschemabench"
SLOTS = 8
VALID_SHARE = 99.5
"""Percent of the answers that ended which should be valid at the first attempt."""
OUTCOMES = ("valid", "invalid", "passed", "cut off", "refused", "failed")


def call(case: Case, max_tokens: int, seed: int) -> ChatCall:
    subject = case.schema.get("title") or case.name.replace("-", " ")
    text = f"Write an example of {subject}, as short as you can."
    return ChatCall(
        model=MODEL,
        messages=(Message(Role.USER, (Text(text),)),),
        output=OutputFormat(kind="json_schema", schema=Raw(msgspec.json.encode(case.schema))),
        sampling=Sampling(max_tokens=max_tokens, temperature=0.7, seed=seed),
    )


async def asked(provider: Structured, case: Case, request: ChatCall) -> str:
    """Return which of :data:`OUTCOMES` the answer is."""
    ctx = Context(request_id=case.name)
    try:
        async with aclosing(provider(request, ctx)) as answers:
            got = [answer async for answer in answers]
    except ServerError as error:
        if error.kind is ErrorKind.OUTPUT_INVALID:
            return "invalid"
        return "refused" if error.kind in {ErrorKind.INVALID_REQUEST, ErrorKind.UNSUPPORTED} else "failed"
    note = ctx.structured
    if note is None or note.outcome != "valid":
        return "cut off" if note is not None and note.outcome == "truncated" else "failed"
    (completion,) = got
    assert isinstance(completion, Completion)
    value = msgspec.json.decode(completion.choices[0].text)
    judge = jsonschema_rs.validator_for(case.schema, validate_formats=True, offline=True)
    return "valid" if judge.is_valid(value) else "passed"


def drawn(cases: list[Case], count: int, seed: int) -> list[Case]:
    """Return ``count`` cases, as evenly of every category as there are."""
    chance = random.Random(seed)
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.category, []).append(case)
    share = -(-count // len(groups))
    return [case for group in groups.values() for case in chance.sample(group, min(share, len(group)))]


async def generated(cases: list[Case], max_tokens: int, seed: int, data_dir: Path) -> list[tuple[Case, str]]:
    models = (ModelConfig(name=MODEL, context=2048),)
    engine = EngineProvider(EngineConfig(slots=SLOTS, data_dir=data_dir, models=models))
    await engine.start()
    if engine.state()[0] is not State.READY:
        sys.exit(engine.state()[1])
    provider, free = Structured(engine, StructuredConfig(max_attempts=1)), asyncio.Semaphore(SLOTS)

    async def one(case: Case, at: int) -> tuple[Case, str]:
        async with free:
            return case, await asked(provider, case, call(case, max_tokens, seed + at))

    try:
        return list(await asyncio.gather(*(one(case, at) for at, case in enumerate(cases))))
    finally:
        await engine.close()


def report(results: list[tuple[Case, str]]) -> Iterator[str]:
    """Yield the table of outcomes by category, and the verdict."""
    groups = (*dict.fromkeys(case.category for case, _ in results), "all")
    rows = []
    for group in groups:
        counts = Counter(outcome for case, outcome in results if group in {"all", case.category})
        rows.append((group, counts.total(), *(counts[each] for each in OUTCOMES)))
    yield from table(("category", "n", *OUTCOMES), rows)
    counts = Counter(outcome for _, outcome in results)
    ended = sum(counts[each] for each in ("valid", "invalid", "passed"))
    share = 100 * counts["valid"] / max(ended, 1)
    verdict = "met" if share >= VALID_SHARE else "MISSED"
    yield ""
    yield f"Valid of those that ended: {share:.1f} % of {ended} (target >= {VALID_SHARE:g} %): {verdict}."
    verdict = "MISSED" if counts["passed"] else "met"
    yield f"Invalid but reported as valid: {counts['passed']} (target: none): {verdict}."


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("JSONSCHEMABENCH", DATA)))
    parser.add_argument("--schemas", type=int, default=40, help="how many, of all categories (default: 40)")
    parser.add_argument("--max-tokens", type=int, default=200, help="limit of an answer (default: 200)")
    parser.add_argument("--seed", type=int, default=1, help="draws the schemas and the answers")
    parser.add_argument("--write", action="store_true", help="put the table into the documentation")
    return parser.parse_args()


def main() -> int:
    """Ask for every schema and print what came of it."""
    chosen = options()
    if not chosen.data.exists():
        print(f"{chosen.data} is not there: nothing is measured. --data takes a file or folder of schemas.")
        return 0
    data_dir = EngineConfig().data_dir.expanduser()
    install(MODEL, data_dir)
    cases = drawn(read(chosen.data), chosen.schemas, chosen.seed)
    results = asyncio.run(generated(cases, chosen.max_tokens, chosen.seed, data_dir))
    lines = list(report(results))
    print("\n".join(lines))
    others = [pair for pair in results if pair[1] not in {"valid", "cut off"}]
    print("\n".join(f"{case.name}: {outcome}" for case, outcome in others))
    if chosen.write:
        told = f"At most {chosen.max_tokens} tokens an answer, seed {chosen.seed}."
        write("generation", [told, "", *lines])
    return 0


if __name__ == "__main__":
    sys.exit(main())
