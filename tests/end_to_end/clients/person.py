"""What the clients ask for, and how they tell what they got."""

import json
import sys
from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, Field

QUESTION = "Who is it?"


class Person(BaseModel):
    """Somebody."""

    name: str = Field(max_length=12)
    age: int = Field(ge=0, lt=150)
    mood: Literal["glad", "sad"] | None = None


def run(ways: dict[str, Callable[[str, str], Person]]) -> None:
    """Ask in every way for every model of the command line (``way:model``), and print the answers as JSON."""
    url, *asked = sys.argv[1:]
    told: dict[str, Any] = {}
    for each in asked:
        way, _, model = each.partition(":")
        person = ways[way](url, model)
        assert isinstance(person, Person), person
        told[each] = person.model_dump()
    print(json.dumps(told))
