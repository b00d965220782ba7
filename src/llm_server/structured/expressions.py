"""Small expressions over an answer, for rules in configuration: Python's syntax, and nothing that acts.

``value.end >= value.start``, ``size(value.lines) <= 20``, ``all(line.net > 0 for line in value.lines)``.
Names: ``value``, ``answer``, and the functions in :data:`FUNCTIONS`. A property that is not there is
``None``, and so is every property of ``None``.

What an expression may do is decided when it is read; what it costs is bounded while it is evaluated, because
the values are a model's.
"""

import ast
import inspect
import operator
from collections.abc import Callable, Mapping
from typing import Any

from llm_server.structured.patterns import Pattern

Names = Mapping[str, Any]

MAX_TEXT = 2_000
"""Most characters of an expression."""
MAX_DEPTH = 32
"""Most parts of an expression inside each other."""
MAX_STEPS = 100_000
"""Most items that the loops of an expression may go through together: about a tenth of a second."""
_GIVEN = frozenset({"value", "answer"})

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "all": all,
    "any": any,
    "distinct": lambda items: len({repr(item) for item in items}) == len(items),
    "ends_with": lambda text, end: text.endswith(end),
    "lower": lambda text: text.lower(),
    "matches": lambda text, pattern: Pattern(pattern).found(text),
    "max": max,
    "min": min,
    "round": round,
    "size": len,
    "starts_with": lambda text, start: text.startswith(start),
    "sum": sum,
    "upper": lambda text: text.upper(),
}


def _number(value: Any) -> Any:
    """Return ``value`` if it is a number: a text times a number, or a format with a width, can be huge."""
    if not isinstance(value, int | float):
        raise TypeError(f"a {type(value).__name__} is no number")
    return value


_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: lambda left, right: _number(left) * _number(right),
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: lambda left, right: _number(left) % right,
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
        ValueError: the text is no expression, uses more than expressions may, or names what is not there.
    """

    def __init__(self, text: str) -> None:
        if len(text) > MAX_TEXT:
            raise ValueError(f"an expression has at most {MAX_TEXT} characters")
        try:
            self._body = ast.parse(text.strip(), mode="eval").body
        except SyntaxError as error:
            raise ValueError(f"not an expression: {error.msg}") from None
        except (ValueError, RecursionError, MemoryError):  # a null character; far too many brackets
            raise ValueError("not an expression") from None
        _check(self._body, _GIVEN, MAX_DEPTH)

    def __call__(self, names: Names) -> Any:
        """Return what the expression is with ``names``.

        Raises:
            Exception: of any kind, when the names have values that it does not suit, or too many of them.
        """
        return _value(self._body, _Scope(names, [MAX_STEPS]))


def _check(node: ast.AST, names: frozenset[str], levels: int) -> None:
    """Refuse what may not stand at ``node``, or inside it, where there are ``names``."""
    if levels == 0:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
    if isinstance(node, ast.expr | ast.operator | ast.unaryop | ast.cmpop) and type(node) not in _KNOWN:
        raise ValueError(f"{type(node).__name__} cannot stand in an expression")
    inside: list[ast.AST] = list(ast.iter_child_nodes(node))
    match node:
        case ast.Constant() if not isinstance(node.value, str | int | float | None):
            raise ValueError(f"a {type(node.value).__name__} cannot stand in an expression")
        case ast.Name() if node.id not in names:
            raise ValueError(f"'{node.id}' is no name here; there are: {', '.join(sorted(names))}")
        case ast.Call():
            _check_call(node)
            inside = list(node.args)
        case ast.Compare():
            _check_identity(node)
        case ast.GeneratorExp() | ast.ListComp():
            for clause in node.generators:
                names = _checked_clause(clause, names, levels)
            inside = [node.elt]
    for each in inside:
        _check(each, names, levels - 1)


def _check_call(node: ast.Call) -> None:
    """Refuse functions that are not there, or that cannot be called so."""
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name not in FUNCTIONS or node.keywords:
        raise ValueError(f"there are only these functions: {', '.join(FUNCTIONS)}")
    try:
        inspect.signature(FUNCTIONS[name]).bind(*node.args)
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from None
    except ValueError:  # max and min have no signature that could be asked
        if not node.args:
            raise ValueError(f"{name}: missing an argument") from None
    if name == "matches":
        match node.args[1]:
            case ast.Constant(value=str(pattern)):
                Pattern(pattern)
            case _:
                raise ValueError("matches: the pattern is a text that stands in the expression itself")


def _check_identity(node: ast.Compare) -> None:
    for sign, right in zip(node.ops, node.comparators, strict=True):
        constant = isinstance(right, ast.Constant) and (right.value is None or isinstance(right.value, bool))
        if isinstance(sign, ast.Is | ast.IsNot) and not constant:
            raise ValueError("'is' is for None, True and False; write == or !=")


def _checked_clause(clause: ast.comprehension, names: frozenset[str], levels: int) -> frozenset[str]:
    """Return the names that there are after one ``for name in items if test``."""
    if clause.is_async or not isinstance(clause.target, ast.Name):
        raise ValueError("only 'for name in items'")
    _check(clause.iter, names, levels - 1)
    known = names | {clause.target.id}
    for test in clause.ifs:
        _check(test, known, levels - 1)
    return known


class _Scope:
    """The names at a place in an expression, and the steps that are left to the whole of it."""

    __slots__ = ("_left", "names")

    def __init__(self, names: Names, left: list[int]) -> None:
        self.names = names
        self._left = left

    def having(self, name: str, item: Any) -> "_Scope":
        """Return the scope of one item of a loop: a step."""
        self._left[0] -= 1
        if self._left[0] < 0:
            raise ValueError(f"more than {MAX_STEPS} items")
        return _Scope({**self.names, name: item}, self._left)


def _value(node: ast.AST, scope: _Scope) -> Any:
    return _EVALUATED[type(node)](node, scope)


def _boolean(node: ast.BoolOp, scope: _Scope) -> Any:
    value = None
    for part in node.values:
        value = _value(part, scope)
        if bool(value) is isinstance(node.op, ast.Or):
            return value
    return value


def _comparison(node: ast.Compare, scope: _Scope) -> bool:
    left = _value(node.left, scope)
    for sign, each in zip(node.ops, node.comparators, strict=True):
        right = _value(each, scope)
        if not _COMPARE[type(sign)](left, right):
            return False
        left = right
    return True


def _comprehension(node: ast.GeneratorExp | ast.ListComp, scope: _Scope) -> list[Any]:
    scopes = [scope]
    for clause in node.generators:
        assert isinstance(clause.target, ast.Name)
        name = clause.target.id
        inner = [each.having(name, item) for each in scopes for item in _value(clause.iter, each)]
        scopes = [each for each in inner if all(_value(test, each) for test in clause.ifs)]
    return [_value(node.elt, each) for each in scopes]


def _property(node: ast.Attribute, scope: _Scope) -> Any:
    value = _value(node.value, scope)
    if value is None:
        return None
    if not isinstance(value, dict):
        raise TypeError(f"a {type(value).__name__} has no properties")
    return value.get(node.attr)


def _call(node: ast.Call, scope: _Scope) -> Any:
    assert isinstance(node.func, ast.Name)
    return FUNCTIONS[node.func.id](*(_value(each, scope) for each in node.args))


_EVALUATED: dict[type, Callable[[Any, _Scope], Any]] = {
    ast.BoolOp: _boolean,
    ast.Compare: _comparison,
    ast.BinOp: lambda n, scope: _BINARY[type(n.op)](_value(n.left, scope), _value(n.right, scope)),
    ast.UnaryOp: lambda n, scope: _UNARY[type(n.op)](_value(n.operand, scope)),
    ast.IfExp: lambda n, scope: _value(n.body if _value(n.test, scope) else n.orelse, scope),
    ast.GeneratorExp: _comprehension,
    ast.ListComp: _comprehension,
    ast.Attribute: _property,
    ast.Subscript: lambda n, scope: _value(n.value, scope)[_value(n.slice, scope)],
    ast.List: lambda n, scope: [_value(each, scope) for each in n.elts],
    ast.Tuple: lambda n, scope: [_value(each, scope) for each in n.elts],
    ast.Name: lambda n, scope: scope.names[n.id],
    ast.Call: _call,
    ast.Constant: lambda n, _scope: n.value,
}
_KNOWN = _EVALUATED.keys() | _BINARY.keys() | _UNARY.keys() | _COMPARE.keys()
