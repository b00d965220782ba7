"""Conversions of a valid answer: named transformers with parameters, applied in order."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from llm_server.contract import ErrorKind, Problem, ServerError, TransformStep
from llm_server.structured.coercing import towards
from llm_server.structured.places import NotConvertibleError
from llm_server.structured.references import References
from llm_server.structured.registered import misfit, registered
from llm_server.structured.schema import Schema, load
from llm_server.structured.transformers import BUILT_IN, CoerceTypes, Transformer
from llm_server.structured.validation import Validator

MAX_STEPS = 32


class Conversions:
    """The transformers that a caller may name: those built in, and those that the operator registered.

    Args:
        functions: name to ``module:function``.

    Raises:
        ValueError: there is no such function; the configuration was checked for it when it was read.
    """

    def __init__(self, functions: Mapping[str, str] | None = None) -> None:
        self._functions = {name: registered(path, alone=False) for name, path in (functions or {}).items()}

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in order."""
        return tuple(sorted({*BUILT_IN, *self._functions}))

    def plan(self, steps: Sequence[TransformStep], target: bytes = b"") -> Callable[[Any], Any]:
        """Return the function that applies ``steps`` in order and holds the result to the schema ``target``.

        It raises ``OUTPUT_INVALID`` with the problems when a step cannot be applied or the result is not
        valid.

        Raises:
            ServerError: ``INVALID_REQUEST`` for an unknown name, a wrong parameter or a bad schema.
        """
        if len(steps) > MAX_STEPS:
            message = f"At most {MAX_STEPS} transformers can be applied."
            raise ServerError(ErrorKind.INVALID_REQUEST, message, param="transformers")
        schema = _target(target) if target else None
        chosen = [(step.name, self._prepared(at, step, schema)) for at, step in enumerate(steps)]
        validator = Validator.of(schema) if schema else None

        def convert(value: Any) -> Any:
            for name, transform in chosen:
                value = _applied(name, transform, value)
            found = validator.problems(value) if validator else ()
            if found:
                message = f"The converted answer does not follow the target schema: {found[0]}."
                raise ServerError(ErrorKind.OUTPUT_INVALID, message).because(found)
            return value

        return convert

    def _prepared(self, at: int, step: TransformStep, target: Schema | None) -> Callable[[Any], Any]:
        built_in = BUILT_IN.get(step.name)
        if built_in is None:
            return self._bound(at, step)
        try:
            made: Transformer = msgspec.convert(dict(step.parameters), built_in, strict=True)
        except msgspec.ValidationError as error:
            raise _unfit(at, step, str(error)) from error
        if isinstance(made, CoerceTypes) and not made.types and target is not None:
            references = References(target.value, "id" if target.draft == "4" else "$id")
            return lambda value: towards(value, target.value, references)
        return made

    def _bound(self, at: int, step: TransformStep) -> Callable[[Any], Any]:
        function, parameters = self._functions.get(step.name), dict(step.parameters)
        if function is None:
            names = ", ".join(self.names)
            message = f"Unknown transformer '{step.name[:64]}'. There are: {names}."
            raise ServerError(ErrorKind.INVALID_REQUEST, message, param=f"transformers[{at}].name")
        if wrong := misfit(function, parameters):
            raise _unfit(at, step, wrong)
        return lambda value: function(value, **parameters)


def _target(source: bytes) -> Schema:
    try:
        return load(source)
    except ServerError as error:
        message = error.message.replace("The schema", "The target schema", 1)
        raise ServerError(error.kind, message, param="target_schema") from error


def _unfit(at: int, step: TransformStep, wrong: str) -> ServerError:
    where = f"transformers[{at}]"
    return ServerError(ErrorKind.INVALID_REQUEST, f"{where} ({step.name}): {wrong}.", param=where)


def _applied(name: str, transform: Callable[[Any], Any], value: Any) -> Any:
    try:
        return transform(value)
    except NotConvertibleError as error:
        problem = Problem(error.pointer, name, error.expected, error.found)
        message = f"{name} cannot be applied: {problem}."
        raise ServerError(ErrorKind.OUTPUT_INVALID, message).because([problem]) from error
    except Exception as error:
        message = f"The transformer '{name}' failed; see the server's log."
        raise ServerError(ErrorKind.INTERNAL, message, detail=repr(error)) from error
