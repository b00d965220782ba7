"""Functions of the operator's own, which a configuration names: found, and tried on, at the start."""

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any

Function = Callable[..., Any]


def registered(name: str, *, alone: bool) -> Function:
    """Return the function that ``module:function`` names: one that takes a value as its first argument.

    ``alone``: it is called with nothing else, so it must need nothing else.

    Raises:
        ValueError: in words: there is no such function, or it cannot be called so.
    """
    module, _, attribute = name.partition(":")
    try:
        function = getattr(import_module(module), attribute)
    except AttributeError:
        raise ValueError(f"there is no '{attribute}' in the module '{module}'") from None
    except Exception as error:  # whatever the operator's module raises while it is imported
        words = str(error) or type(error).__name__
        hint = "; is it installed, or its folder in PYTHONPATH?" if _is_missing(error, module) else ""
        raise ValueError(f"'{module}' cannot be imported: {words}{hint}") from error
    if not callable(function):
        raise ValueError(f"'{name}' is no function")
    if inspect.iscoroutinefunction(function):
        raise ValueError(f"'{name}' is asynchronous; write it with 'def'")
    wrong = misfit(function, alone=alone)
    if wrong:
        raise ValueError(f"'{name}' cannot be called with {'nothing but ' if alone else ''}a value: {wrong}")
    return function  # type: ignore[no-any-return]  # what the operator wrote, callable as was just checked


def misfit(function: Function, parameters: dict[str, Any] | None = None, *, alone: bool = True) -> str:
    """Return why ``function`` cannot be called with a value and ``parameters``; empty if it can.

    Not ``alone``: other parameters may come later. Of a function that was not written in Python it may not be
    known: it is taken to fit.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return ""
    try:
        (signature.bind if alone else signature.bind_partial)(None, **(parameters or {}))
    except TypeError as error:
        return str(error)
    return ""


def _is_missing(error: Exception, module: str) -> bool:
    """Whether it is ``module`` itself, or a package that it stands in, that is not there."""
    return isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")
