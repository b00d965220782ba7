"""Variables in text: ``${NAME}``, ``${NAME:-default}``, and ``$$`` for a dollar sign."""

import re
from collections.abc import Mapping

_VARIABLE = re.compile(
    r"\$(?:(?P<dollar>\$)|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|(?P<bad>\{))"
)


class InterpolationError(ValueError):
    """A variable that is not set and has no default, or is not written as one."""


def interpolate(text: str, env: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """Return ``text`` with its variables replaced, and their names.

    As in a shell, a default also stands for a variable that is empty. A ``$`` before anything but
    ``{`` or ``$`` is a dollar sign. What a variable holds is not looked at again.

    Raises:
        InterpolationError: all that cannot be replaced, in words.
    """
    names: list[str] = []
    wrong: list[str] = []

    def replace(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        if match["dollar"]:
            return "$"
        if match["bad"]:
            wrong.append("has a '${' without a name; write ${NAME}, or $${ for the text itself")
            return ""
        names.append(name)
        value = env.get(name)
        if default is not None:
            return value or default
        if value is None:
            wrong.append(f"needs the environment variable {name}, which is not set")
        return value or ""

    replaced = _VARIABLE.sub(replace, text)
    if wrong:
        raise InterpolationError("; ".join(wrong))
    return replaced, tuple(dict.fromkeys(names))
