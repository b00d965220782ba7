"""The transformers that are built in. Each is pure: it returns a new value and leaves the old one alone."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from msgspec import Struct

from llm_server.structured.coercing import Kind, coerced
from llm_server.structured.places import (
    NotConvertibleError,
    Path,
    check_pointer,
    each_inside,
    placed,
    steps_of,
)


class Transformer(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What all transformers have: ``at``, JSON pointers to the values meant, by default the whole answer.

    ``*`` in a pointer stands for every property or item. A place that is not there is left out.

    Raises:
        ValueError: what should be a pointer is none.
    """

    at: tuple[str, ...] | str = ""

    def __post_init__(self) -> None:
        for each in self._places:
            check_pointer(each)

    @property
    def _places(self) -> tuple[str, ...]:
        return (self.at,) if isinstance(self.at, str) else self.at

    def __call__(self, value: Any) -> Any:
        """Return ``value`` converted; raises :class:`NotConvertibleError`."""
        for each in self._places:
            value = placed(value, steps_of(each), (), self.converted)
        return value

    def converted(self, value: Any, path: Path) -> Any:
        """Return what stands at one of the places, converted."""
        raise NotImplementedError


class _Strings(Transformer, frozen=True):
    """Changes every string inside; names of properties stay."""

    def converted(self, value: Any, path: Path) -> Any:
        """Change the strings in ``value``."""
        return each_inside(value, path, lambda each, _: self.string(each) if isinstance(each, str) else each)

    def string(self, text: str) -> str:
        """Return ``text`` changed."""
        raise NotImplementedError


class LowercaseStrings(_Strings, frozen=True):
    """Make strings lower-case."""

    def string(self, text: str) -> str:
        """Return ``text`` in lower case."""
        return text.lower()


class Trim(_Strings, frozen=True):
    """Take white space from both ends of strings."""

    def string(self, text: str) -> str:
        """Return ``text`` without white space at its ends."""
        return text.strip()


class CollapseWhitespace(_Strings, frozen=True):
    """Make one space of every run of white space in strings, and none at the ends."""

    def string(self, text: str) -> str:
        """Return the words of ``text``."""
        return " ".join(text.split())


class FormatDates(_Strings, frozen=True):
    """Write every string that is a date in one form; other strings stay.

    ``inputs`` are further forms that dates come in, beside ISO 8601, as ``strptime`` has them, and ``output``
    is ``date``, ``date-time`` (RFC 3339; a time without an offset counts as UTC) or a form of ``strftime``.
    """

    inputs: tuple[str, ...] = ()
    output: str = "date"

    def __post_init__(self) -> None:
        super().__post_init__()
        for form in (*self.inputs, *({self.output} - {"date", "date-time"})):
            if len(form) > 64 or "%" not in form or not _FORM.fullmatch(form):
                raise ValueError(f"'{form[:64]}' is no form of dates: text with directives such as %d or %B")

    def string(self, text: str) -> str:
        """Return ``text`` in the form wanted, if it is a date."""
        found = self._read(text)
        if found is None:
            return text
        if self.output == "date":
            return found.date().isoformat()
        if self.output == "date-time":
            aware = found if found.tzinfo else found.replace(tzinfo=UTC)
            return aware.isoformat().replace("+00:00", "Z")
        return found.strftime(self.output)

    def _read(self, text: str) -> datetime | None:
        if _ISO.match(text):
            try:
                return datetime.fromisoformat(text)
            except ValueError:
                return None
        for form in self.inputs:
            try:
                return datetime.strptime(text, form)  # noqa: DTZ007 - the form says whether there is an offset
            except ValueError:
                continue
        return None


_FORM = re.compile(r"(?:[^%\x00]|%[a-zA-Z%])+")
"""No widths (``%999999999Y``): they make texts of any length."""
_ISO = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9]{2}:|$)")


class RenameKeys(Transformer, frozen=True):
    """Rename properties of every object inside, all at once; two of one name are an error."""

    names: Mapping[str, str]

    def converted(self, value: Any, path: Path) -> Any:
        """Rename in ``value`` and what is in it."""
        return each_inside(value, path, self._renamed)

    def _renamed(self, value: Any, path: Path) -> Any:
        if not isinstance(value, dict):
            return value
        renamed = {self.names.get(name, name): each for name, each in value.items()}
        if len(renamed) < len(value):
            raise NotConvertibleError(path, "no two properties of the same new name", value)
        return renamed


class DropNulls(Transformer, frozen=True):
    """Leave out properties that are null, and with ``items`` such items."""

    items: bool = False

    def converted(self, value: Any, path: Path) -> Any:
        """Leave them out in ``value`` and what is in it."""
        return each_inside(value, path, self._without)

    def _without(self, value: Any, _path: Path) -> Any:
        if isinstance(value, dict):
            return {name: each for name, each in value.items() if each is not None}
        if isinstance(value, list) and self.items:
            return [each for each in value if each is not None]
        return value


class Defaults(Transformer, frozen=True):
    """Give an object the properties that it lacks."""

    values: Mapping[str, Any]

    def converted(self, value: Any, path: Path) -> Any:
        """Return ``value`` with what it lacks at its end."""
        if not isinstance(value, dict):
            raise NotConvertibleError(path, "an object", value)
        return value | {name: each for name, each in self.values.items() if name not in value}


class CoerceTypes(Transformer, frozen=True):
    """Make values the types that ``types`` says by pointer, or without it those of the target schema.

    Text becomes the number, boolean or null that it spells, a scalar its text, a whole number an integer, and
    one value a list of itself. What cannot be converted without loss is an error.
    """

    types: Mapping[str, Kind] = {}

    def __post_init__(self) -> None:
        super().__post_init__()
        for each in self.types:
            check_pointer(each)

    def converted(self, value: Any, path: Path) -> Any:
        """Coerce at every place in ``types``, counted from here."""
        for place, kind in self.types.items():
            value = placed(value, steps_of(place), path, partial(coerced, kind))
        return value


BUILT_IN: Mapping[str, type[Transformer]] = {
    "lowercase_strings": LowercaseStrings,
    "trim": Trim,
    "collapse_whitespace": CollapseWhitespace,
    "format_dates": FormatDates,
    "coerce_types": CoerceTypes,
    "rename_keys": RenameKeys,
    "drop_nulls": DropNulls,
    "defaults": Defaults,
}
