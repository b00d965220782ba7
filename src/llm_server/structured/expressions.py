"""Small expressions over an answer, for rules in configuration: Python's syntax, and nothing that acts.

``value.end >= value.start``, ``size(value.lines) <= 20``, ``all(line.net > 0 for line in value.lines)``.
Names: ``value``, ``answer``, and the functions in :data:`FUNCTIONS`. A property that is not there is
``None``.
"""

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

Names = Mapping[str, Any]

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "all": all,
    "any": any,
    "distinct": lambda items: len({repr(item) for item in items}) == len(list(items)),
    "ends_with": lambda text, end: text.endswith(end),
    "lower": lambda text: text.lower(),
    "matches": lambda text, pattern: re.search(pattern, text) is not None,
    "max": max,
    "min": min,
    "round": round,
    "size": len,
    "starts_with": lambda text, start: text.startswith(start),
    "sum": sum,
    "upper": lambda text: text.upper(),
}

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.Not: operator.not_, ast.USub: operator.neg}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda item, items: item in items,
    ast.NotIn: lambda item, items: item not in items,
}


class Expression:
    """One compiled expression.

    Raises:
        ValueError: the text is no expression, or uses more than expressions may.
    """

    def __init__(self, text: str) -> None:
        try:
            self._body = ast.parse(text, mode="eval").body
        except (SyntaxError, RecursionError) as error:
            raise ValueError(f"not an expression: {error}") from None
        for node in ast.walk(self._body):
            _check(node)

    def __call__(self, names: Names) -> Any:
        """Return what the expression is with ``names``.

        Raises:
            Exception: of any kind, when the names have values that it does not suit.
        """
        return _value(self._body, names)


def _check(node: ast.AST) -> None:
    if isinstance(node, ast.Call):
        known = isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS
        if not known or node.keywords:
            raise ValueError(f"there are only these functions: {', '.join(FUNCTIONS)}")
    elif isinstance(node, ast.comprehension):
        if node.is_async or not isinstance(node.target, ast.Name):
            raise ValueError("only 'for name in items'")
    elif isinstance(node, ast.expr | ast.operator | ast.unaryop | ast.cmpop) and type(node) not in _KNOWN:
        raise ValueError(f"{type(node).__name__} cannot stand in an expression")


def _value(node: ast.AST, names: Names) -> Any:
    return _EVALUATED[type(node)](node, names)


def _boolean(node: ast.BoolOp, names: Names) -> Any:
    value = None
    for part in node.values:
        value = _value(part, names)
        if bool(value) is isinstance(node.op, ast.Or):
            return value
    return value


def _comparison(node: ast.Compare, names: Names) -> bool:
    left = _value(node.left, names)
    for sign, right in zip(node.ops, (_value(each, names) for each in node.comparators), strict=True):
        if not _COMPARE[type(sign)](left, right):
            return False
        left = right
    return True


def _comprehension(node: ast.GeneratorExp | ast.ListComp, names: Names) -> list[Any]:
    scopes: list[Names] = [names]
    for clause in node.generators:
        assert isinstance(clause.target, ast.Name)
        inner = [{**scope, clause.target.id: item} for scope in scopes for item in _value(clause.iter, scope)]
        scopes = [scope for scope in inner if all(_value(test, scope) for test in clause.ifs)]
    return [_value(node.elt, scope) for scope in scopes]


def _property(node: ast.Attribute, names: Names) -> Any:
    return _value(node.value, names).get(node.attr)


def _name(node: ast.Name, names: Names) -> Any:
    return names[node.id]


def _call(node: ast.Call, names: Names) -> Any:
    assert isinstance(node.func, ast.Name)
    return FUNCTIONS[node.func.id](*(_value(each, names) for each in node.args))


_EVALUATED: dict[type, Callable[[Any, Names], Any]] = {
    ast.BoolOp: _boolean,
    ast.Compare: _comparison,
    ast.BinOp: lambda n, names: _BINARY[type(n.op)](_value(n.left, names), _value(n.right, names)),
    ast.UnaryOp: lambda n, names: _UNARY[type(n.op)](_value(n.operand, names)),
    ast.IfExp: lambda n, names: _value(n.body if _value(n.test, names) else n.orelse, names),
    ast.GeneratorExp: _comprehension,
    ast.ListComp: _comprehension,
    ast.Attribute: _property,
    ast.Subscript: lambda n, names: _value(n.value, names)[_value(n.slice, names)],
    ast.List: lambda n, names: [_value(each, names) for each in n.elts],
    ast.Tuple: lambda n, names: [_value(each, names) for each in n.elts],
    ast.Name: _name,
    ast.Call: _call,
    ast.Constant: lambda n, _names: n.value,
}
_KNOWN = _EVALUATED.keys() | _BINARY.keys() | _UNARY.keys() | _COMPARE.keys()
