"""What the clients ask for, and how they tell what they got."""

import json
import sys
from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel

QUESTION = "Who is it?"


class Person(BaseModel):
    """Somebody; nothing that a client leaves out of the schema, as some do with bounds."""

    name: Literal["Ada", "Grace"]
    age: int
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
