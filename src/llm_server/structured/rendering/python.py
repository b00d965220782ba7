"""Write types as a Pydantic model."""

import keyword
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from llm_server.structured.rendering.types import (
    Alias,
    Anything,
    Choice,
    Field,
    Items,
    Module,
    Named,
    Nothing,
    Record,
    Row,
    Scalar,
    Table,
    Type,
    Values,
)

_HEAD = '''"""{title}: made from a JSON Schema. Needs Pydantic 2.14; validate with `model_validate_json`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import MISSING, BaseModel, ConfigDict, Field, RootModel
from typing_extensions import TypeAliasType
'''
_NOTHING = "Annotated[int, Field(gt=0, lt=0)]"
"""What no value is: Pydantic takes no ``Never``."""
_SCALARS = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}
_WORDS = {
    "minimum": "ge",
    "exclusiveMinimum": "gt",
    "maximum": "le",
    "exclusiveMaximum": "lt",
    "multipleOf": "multiple_of",
    "minLength": "min_length",
    "maxLength": "max_length",
    "minItems": "min_length",
    "maxItems": "max_length",
    "minProperties": "min_length",
    "maxProperties": "max_length",
    "pattern": "pattern",
}
_TAKEN = {
    *_SCALARS.values(),
    "Annotated",
    "Any",
    "Field",
    "Literal",
    "MISSING",
    "dict",
    "list",
    "tuple",
}
"""Names that annotations use: a field called so would hide them from the fields after it."""


def pydantic_source(module: Module) -> str:
    """Return Python source that declares ``module``; the model is called ``module.root``."""
    printer = _Printer()
    declarations = [printer.declaration(each, module.root) for each in module.declarations]
    missed = [*module.unexpressed, *printer.unexpressed]
    notes = [f"# Not expressed: {each.encode('unicode_escape').decode()}." for each in dict.fromkeys(missed)]
    parts = [_HEAD.format(title=module.root), *(["\n".join(notes) + "\n"] if notes else []), *declarations]
    return "\n\n".join(part.rstrip("\n") + "\n" for part in parts)


class _Printer:
    def __init__(self) -> None:
        self._declared: set[str] = set()
        self._ahead = False
        self.unexpressed: list[str] = []

    def declaration(self, declared: Record | Alias, root: str) -> str:
        """Return the source of one declaration."""
        if isinstance(declared, Record):
            self._declared.add(declared.name)
            return "\n".join(self._record(declared))
        self._ahead = False
        source = self.source(declared.type)
        if declared.name == root:
            body = f"    model_config = ConfigDict(strict=True)\n{_docstring(declared.description)}"
            source = repr(source) if self._ahead else source
            return f"class {root}(RootModel[{source}]):\n{body}"
        recursive, self._ahead = self._ahead, False
        self._declared.add(declared.name)
        if recursive:
            return f'{declared.name} = TypeAliasType("{declared.name}", {source!r})'
        return f"{declared.name} = {source}"

    def _record(self, record: Record) -> Iterator[str]:
        extra = "forbid" if record.others is None else "allow"
        yield f"class {record.name}(BaseModel):"
        if record.description:
            yield _docstring(record.description)
        yield f'    model_config = ConfigDict(strict=True, extra="{extra}", protected_namespaces=())'
        if record.others is not None and not isinstance(record.others, Anything):
            yield f"    __pydantic_extra__: dict[str, {self.source(record.others)}]"
        names: set[str] = set()
        for field in record.fields:
            name = _identifier(field.name, names)
            names.add(name)
            yield self._field(field, name)

    def _field(self, field: Field, name: str) -> str:
        source = self.source(field.type)
        options = {"alias": field.name} if name != field.name else {}
        options |= {"description": field.description} if field.description else {}
        said = ", ".join(f"{key}={value!r}" for key, value in options.items())
        if field.required:
            return f"    {name}: {source} = Field({said})" if said else f"    {name}: {source}"
        value = f"Field(default=MISSING, {said})" if said else "MISSING"
        return f"    {name}: {source} | MISSING = {value}"

    def source(self, shown: Type) -> str:
        """Return the annotation for ``shown``."""
        match shown:
            case Anything():
                return "Any"
            case Nothing():
                return _NOTHING
            case Values(values):
                return _literals(values)
            case Named(name):
                self._ahead = self._ahead or name not in self._declared
                return name
            case Row(items):
                return f"tuple[{', '.join(map(self.source, items))}]"
            case Choice(members):
                return " | ".join(map(self.source, members))
            case Scalar(kind, limits):
                return self._limited(_SCALARS[kind], kind, limits)
            case Items(item, limits):
                return self._limited(f"list[{self.source(item)}]", "array", limits)
            case Table(value, limits):
                return self._limited(f"dict[str, {self.source(value)}]", "object", limits)

    def _limited(self, source: str, kind: str, limits: Mapping[str, Any]) -> str:
        said = {_WORDS[key]: each for key, value in limits.items() for each in self._limit(kind, key, value)}
        if not said:
            return source
        return f"Annotated[{source}, Field({', '.join(f'{key}={value!r}' for key, value in said.items())})]"

    def _limit(self, kind: str, key: str, value: Any) -> Iterator[Any]:
        """Yield what Pydantic is told of a limit, nothing if it cannot be told."""
        if key == "pattern":
            pattern = _ascii_digits(value)
            if _is_pattern(pattern):
                yield pattern
            else:
                self.unexpressed.append(f"pattern {value}")
        elif kind == "number":
            yield float(value)
        elif key == "multipleOf":
            yield Fraction(str(value)).numerator  # a whole number is a multiple of p/q if it is one of p
        else:
            yield math.ceil(value) if key in {"minimum", "exclusiveMaximum"} else math.floor(value)


def _literals(values: Sequence[Any]) -> str:
    """Return what takes only ``values``: for Pydantic, ``Literal[1]`` takes true as well."""
    wanted = {(type(value), value) for value in values}
    told = [_BINARY[key] for key in _BINARY if key in wanted]
    if (bool, False) in wanted and (bool, True) in wanted:
        told = ["bool", *(each for each in told if "bool" not in each)]
    plain = [repr(value) for value in values if (type(value), value) not in _BINARY]
    return " | ".join([*([f"Literal[{', '.join(plain)}]"] if plain else []), *told])


_BINARY: Mapping[tuple[type, Any], str] = {
    (int, 0): "Annotated[int, Field(ge=0, le=0)]",
    (int, 1): "Annotated[int, Field(ge=1, le=1)]",
    (bool, False): "Annotated[bool, Field(le=False)]",
    (bool, True): "Annotated[bool, Field(ge=True)]",
}


def _docstring(text: str) -> str:
    return f"    {text!r}" if text else ""


def _identifier(name: str, taken: set[str]) -> str:
    """Return the attribute for a property: its own name where that can be one."""
    from pydantic import BaseModel

    plain = re.sub(r"[^A-Za-z0-9_]", "_", name).strip("_") or "field"
    plain = f"field_{plain}" if plain[0].isdigit() else plain
    if keyword.iskeyword(plain) or plain in _TAKEN or hasattr(BaseModel, plain):
        plain = f"{plain}_"
    while plain in taken:
        plain += "_"
    return plain


def _ascii_digits(pattern: str) -> str:
    r"""Return ``pattern`` with ``\d`` as ECMA-262 means it: Pydantic's also takes digits of other scripts."""
    inside, made = False, ""
    for each in re.findall(r"\\.|.", pattern, re.DOTALL):
        if each == "\\d":
            made += "0-9" if inside else "[0-9]"
        else:
            made += each
            inside = each == "[" or (inside and each != "]")
    return made


def _is_pattern(pattern: str) -> bool:
    """Whether Pydantic takes ``pattern``: its engine has no lookaround, and words its own."""
    from pydantic_core import SchemaError, SchemaValidator, core_schema

    try:
        SchemaValidator(core_schema.str_schema(pattern=pattern))
    except SchemaError:
        return False
    return True
