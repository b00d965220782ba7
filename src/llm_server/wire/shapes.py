"""What a wire type looks like from outside: which fields it knows, walked beside a decoded value.

Compiled once from msgspec types. Serves what decoding alone cannot say: which of a caller's fields nothing
models, which values an enumeration has, and which parts are of a type that nobody here knows.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from operator import is_
from typing import Any, Self

from msgspec import Raw, Struct, inspect

from llm_server.wire.unread import STEP, at, opened, says_nothing, text

OPAQUE = "opaque"


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


class Shape(Struct, dict=True):
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

    @cached_property
    def _names(self) -> bool:
        """Whether there are names anywhere in this shape, so that it is worth looking inside."""
        return self.fields is not None or bool(self.variants) or (self.item is not None and self.item._names)

    @cached_property
    def _plain(self) -> frozenset[str]:
        """The fields in which there are no names to look for."""
        return frozenset(name for name, shape in (self.fields or {}).items() if not shape._names)

    def _tag(self, members: Mapping[str, object]) -> object:
        """Return the tag of an object, ``None`` if it has none; one that is not a string is left unread."""
        tag = members.get(self.tag_field)
        if not isinstance(tag, Raw):
            return tag
        if bytes(memoryview(tag)[:1]) == b"n":
            return None
        told = text(tag)
        return tag if told is None else told

    def _inside(self, members: Mapping[str, object]) -> "Shape | None":
        """Return the shape of the object with ``members``, by its tag where there are several."""
        if not self.tag_field:
            return self
        tag = self._tag(members) or self.assumed
        return self.variants.get(tag) if isinstance(tag, str) else None

    def unknown(self, value: object, path: str = "") -> Iterator[str]:
        """Yield the paths (array places as ``[]``) of the fields in ``value`` that this shape does not know.

        ``value`` is read, or ``Raw`` that is not. A field that says nothing (null, an empty array or object)
        is not yielded.
        """
        inside = opened(value)
        if isinstance(inside, list) and self.item is not None and self.item._names:
            for inner in inside:
                yield from self.item.unknown(inner, f"{path}[]")
        elif isinstance(inside, dict) and (shape := self._inside(inside)) and shape.fields is not None:
            for key, inner in inside.items():
                if key in shape._plain or key == self.tag_field:
                    continue
                here = f"{path}.{key}" if path else key
                if key in shape.fields:
                    yield from shape.fields[key].unknown(inner, here)
                elif not says_nothing(inner):
                    yield here

    def neutral(self, raw: Raw, budget: Iterator[int]) -> Any:
        """Return ``raw`` with assumed tags, and parts of unknown types as :class:`Unmodelled`.

        What needs no change is returned as it is, the same object; the rest as arrays and objects to encode.
        Every object looked into takes one of ``budget``; ``OverflowError`` when none is left.
        """
        inside = opened(raw) if self._names else None
        if isinstance(inside, list) and self.item is not None:
            items = [self.item.neutral(inner, budget) for inner in inside]
            return raw if all(map(is_, items, inside)) else items
        return self._neutral_object(raw, inside, budget) if isinstance(inside, dict) else raw

    def _neutral_object(self, raw: Raw, members: dict[str, Raw], budget: Iterator[int]) -> Any:
        if next(budget, None) is None:
            raise OverflowError
        tag = self._tag(members)
        if OPAQUE in self.variants and isinstance(tag, str) and tag not in self.variants:
            return {self.tag_field: OPAQUE, "was": tag}
        shape = self._inside(members)
        fields = (shape.fields if shape else None) or {}
        done = {
            key: fields[key].neutral(inner, budget) if key in fields else inner
            for key, inner in members.items()
        }
        if tag is None and self.assumed:
            return done | {self.tag_field: self.assumed}
        return raw if all(map(is_, done.values(), members.values())) else done

    def allowed(self, raw: Raw, path: str) -> tuple[object, ...]:
        """Return the values that the enumeration or type field at ``path`` in ``raw`` may have."""
        shape: Shape | None = self
        for name, index in STEP.findall(path):
            if shape is None:
                return ()
            if index:
                shape, raw = shape.item, at(raw, f"[{index}]")
            elif name == shape.tag_field:
                return tuple(tag for tag in shape.variants if tag != OPAQUE)
            else:
                members = opened(raw)
                inside = shape._inside(members) if isinstance(members, dict) else None
                shape, raw = ((inside.fields or {}).get(name) if inside else None), at(raw, name)
        return shape.values if shape else ()
