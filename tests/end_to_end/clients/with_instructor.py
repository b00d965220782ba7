"""Instructor (https://python.useinstructor.com) as its documentation uses it, in each of its modes."""

from functools import partial

import anthropic
import instructor
import openai
from person import QUESTION, Person, run

KEY = "none"
Mode = instructor.Mode


def with_openai(mode: Mode, url: str, model: str) -> Person:
    client = instructor.from_openai(
        openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0), mode=mode
    )
    return client.chat.completions.create(
        model=model,
        response_model=Person,
        messages=[{"role": "user", "content": QUESTION}],
        max_retries=0,
        max_tokens=200,
    )


def with_anthropic(mode: Mode, url: str, model: str) -> Person:
    client = instructor.from_anthropic(
        anthropic.Anthropic(base_url=url, api_key=KEY, max_retries=0), mode=mode
    )
    return client.messages.create(
        model=model,
        response_model=Person,
        messages=[{"role": "user", "content": QUESTION}],
        max_retries=0,
        max_tokens=200,
    )


def partially(url: str, model: str) -> Person:
    """Ask for the growing object, and give its last state."""
    client = instructor.from_openai(openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0))
    growing = client.chat.completions.create_partial(
        model=model,
        response_model=Person,
        messages=[{"role": "user", "content": QUESTION}],
        max_retries=0,
        max_tokens=200,
    )
    return Person.model_validate(list(growing)[-1].model_dump())


if __name__ == "__main__":
    run(
        {
            "tools": partial(with_openai, Mode.TOOLS),
            "tools-strict": partial(with_openai, Mode.TOOLS_STRICT),
            "json-schema": partial(with_openai, Mode.JSON_SCHEMA),
            "json": partial(with_openai, Mode.JSON),
            "partial": partially,
            "anthropic-tools": partial(with_anthropic, Mode.ANTHROPIC_TOOLS),
            "anthropic-json": partial(with_anthropic, Mode.ANTHROPIC_JSON),
        }
    )
