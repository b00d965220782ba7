"""What a wire type looks like from outside: which fields it knows, walked beside a decoded value.

Compiled once from msgspec types. Serves what decoding alone cannot say: which of a caller's fields nothing
models, which values an enumeration has, and which parts are of a type that nobody here knows.
"""

import re
from collections.abc import Iterator
from typing import Any, Self

from msgspec import Struct, inspect

OPAQUE = "opaque"

_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


class Unmodelled(Struct, frozen=True, kw_only=True, gc=False, tag=OPAQUE):
    """A part whose content is not modelled: it is kept in the raw body, and only its type is known.

    Subclasses with a tag of their own are types that a vendor documents; anything else is rewritten to this
    one, with its type in ``was``.
    """

    was: str = ""

    @property
    def kind(self) -> str:
        """The ``type`` that the caller wrote."""
        return self.was or str(self.__struct_config__.tag)


class Shape(Struct):
    """One place in a wire type. Empty where anything goes."""

    fields: dict[str, "Shape"] | None = None
    item: "Shape | None" = None
    values: tuple[object, ...] = ()
    tag_field: str = ""
    assumed: str = ""
    """The tag of an object that has none: of the variant that says so by ``ASSUMED``."""
    variants: dict[object, "Shape"] = {}

    @classmethod
    def of(cls, kind: object) -> Self:
        """Return the shape of a type."""
        shape = cls()
        shape._add(inspect.type_info(kind))
        return shape

    def _add(self, kind: inspect.Type) -> None:
        match kind:
            case inspect.UnionType():
                for member in kind.types:
                    self._add(member)
            case inspect.ListType():
                self.item = self.item or type(self)()
                self.item._add(kind.item_type)
            case inspect.LiteralType():
                self.values += tuple(kind.values)
            case inspect.StructType(tag=None):
                self.fields = self._fields(kind)
            case inspect.StructType():
                fields = None if issubclass(kind.cls, Unmodelled) else self._fields(kind)
                self.tag_field = kind.tag_field or ""
                self.assumed = str(kind.tag) if getattr(kind.cls, "ASSUMED", False) else self.assumed
                self.variants[kind.tag] = type(self)(fields=fields)
            case _:
                pass

    def _fields(self, kind: inspect.StructType) -> dict[str, "Shape"]:
        fields = {}
        for field in kind.fields:
            fields[field.encode_name] = shape = type(self)()
            shape._add(field.type)
        return fields

    def _inside(self, value: dict[str, Any]) -> "Shape | None":
        """Return the shape of the object ``value``, by its tag where there are several."""
        tag = value.get(self.tag_field) or self.assumed
        return self.variants.get(tag) if self.tag_field and isinstance(tag, str) else self

    def unknown(self, value: object, path: str = "") -> Iterator[str]:
        """Yield the paths (array places as ``[]``) of the fields in ``value`` that this shape does not know.

        A field that says nothing (null, an empty array or object) is not yielded.
        """
        if isinstance(value, list) and self.item is not None:
            for inner in value:
                yield from self.item.unknown(inner, f"{path}[]")
        elif isinstance(value, dict) and (shape := self._inside(value)) and shape.fields is not None:
            for key, inner in value.items():
                here = f"{path}.{key}" if path else key
                if known := shape.fields.get(key):
                    yield from known.unknown(inner, here)
                elif key != self.tag_field and inner not in (None, [], {}):
                    yield here

    def neutral(self, value: Any) -> Any:
        """Return ``value`` with assumed tags, and parts of unknown types as :class:`Unmodelled`."""
        if isinstance(value, list) and self.item is not None:
            return [self.item.neutral(inner) for inner in value]
        if not isinstance(value, dict):
            return value
        tag = value.get(self.tag_field)
        if tag is None and self.assumed:
            value = {**value, self.tag_field: self.assumed}
        if OPAQUE in self.variants and isinstance(tag, str) and tag not in self.variants:
            return {self.tag_field: OPAQUE, "was": tag}
        shape = self._inside(value)
        fields = (shape.fields if shape else None) or {}
        return {key: fields[key].neutral(inner) if key in fields else inner for key, inner in value.items()}

    def allowed(self, value: Any, path: str) -> tuple[object, ...]:
        """Return the values that the enumeration or type field at ``path`` in ``value`` may have."""
        shape: Shape | None = self
        for name, index in _STEP.findall(path):
            if shape is None:
                return ()
            if index:
                shape, value = shape.item, value[int(index)]
            elif name == shape.tag_field:
                return tuple(tag for tag in shape.variants if tag != OPAQUE)
            else:
                inside = shape._inside(value)
                shape, value = ((inside.fields or {}).get(name) if inside else None), value.get(name)
        return shape.values if shape else ()
