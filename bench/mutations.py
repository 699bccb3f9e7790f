"""Small faults that can be inserted into a source file: one operator, number, condition or statement changed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==",
    ast.Is: "is not", ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in",
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"), ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"), ast.Pow: ("**", "*"), ast.BitAnd: ("&", "|"), ast.BitOr: ("|", "&"),
}  # fmt: skip
SYMBOLS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}


@dataclass(frozen=True)
class Mutation:
    """One change of a source file.

    Attributes
    ----------
    kind : str
        ``"comparison"``, ``"arithmetic"``, ``"boolean"``, ``"constant"``, ``"negation"`` or ``"statement"``.
    line : int
        Line of the change, from 1.
    start, end : int
        Characters of the source that are replaced.
    before, after : str
        What stands there, and what takes its place.
    """

    kind: str
    line: int
    start: int
    end: int
    before: str
    after: str

    def apply(self, source: str) -> str:
        """The source with this change."""
        return source[: self.start] + self.after + source[self.end :]


def mutations(source: str) -> list[Mutation]:
    """All changes of a source file, in the order of its text.

    Docstrings, annotations, arguments of ``raise`` and ``warn``, and texts stay as they are. Few of the changed sources
    are no longer valid Python; :func:`parses` detects them.
    """
    tree = ast.parse(source)
    return sorted(_Finder(source).of(tree), key=lambda m: (m.start, m.end, m.after))


class _Finder:
    def __init__(self, source: str) -> None:
        self.source = source
        self.starts = [0]
        for line in source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.lines = source.splitlines()

    def of(self, node: ast.AST) -> Iterator[Mutation]:
        """The changes in a node and below it."""
        if isinstance(node, (ast.Raise, ast.Import, ast.ImportFrom, ast.JoinedStr)) or _warns(node):
            if isinstance(node, ast.Raise):
                yield self._replaced("statement", node, "pass")
            return
        if isinstance(node, ast.Compare):
            yield from self._compare(node)
        elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
            yield from self._between("arithmetic", node.left, node.right, *ARITHMETIC[type(node.op)])
        elif isinstance(node, ast.BoolOp):
            words = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
            yield from self._between("boolean", node.values[0], node.values[1], *words)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
            yield self._replaced("negation", node, f"({self._text(node.operand)})")
        elif isinstance(node, ast.Constant):
            yield from self._constant(node)
        elif isinstance(node, (ast.If, ast.While, ast.IfExp)):
            yield self._replaced("negation", node.test, f"(not ({self._text(node.test)}))")
        elif isinstance(node, ast.AugAssign) or (
            isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)
        ):
            yield self._replaced("statement", node, "pass")
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "type_params", "decorator_list"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from self.of(child)

    def _compare(self, node: ast.Compare) -> Iterator[Mutation]:
        left = node.left
        for operator, right in zip(node.ops, node.comparators, strict=True):
            start, end = self._offset(left, end=True), self._offset(right)
            between = self.source[start:end]
            after = COMPARISONS[type(operator)]
            word = SYMBOLS.get(type(operator)) or {
                ast.Is: "is", ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in"
            }[type(operator)]  # fmt: skip
            match = re.search(re.escape(word), between)
            if match:
                at = start + match.start()
                yield Mutation("comparison", left.end_lineno or 0, at, at + len(word), word, after)
            left = right

    def _between(self, kind: str, left: ast.expr, right: ast.expr, before: str, after: str) -> Iterator[Mutation]:
        start = self._offset(left, end=True)
        at = self.source.find(before, start, self._offset(right))
        if at >= 0:
            yield Mutation(kind, left.end_lineno or 0, at, at + len(before), before, after)

    def _constant(self, node: ast.Constant) -> Iterator[Mutation]:
        value = node.value
        if isinstance(value, bool):
            yield self._replaced("constant", node, str(not value))
        elif isinstance(value, int):
            yield self._replaced("constant", node, str(value + 1))
            if value > 0:
                yield self._replaced("constant", node, str(value - 1))
        elif isinstance(value, float):
            yield self._replaced("constant", node, repr(value * 2 if value else 1.0))

    def _replaced(self, kind: str, node: ast.stmt | ast.expr, after: str) -> Mutation:
        start, end = self._offset(node), self._offset(node, end=True)
        return Mutation(kind, node.lineno, start, end, self.source[start:end], after)

    def _text(self, node: ast.expr) -> str:
        return self.source[self._offset(node) : self._offset(node, end=True)]

    def _offset(self, node: ast.stmt | ast.expr, *, end: bool = False) -> int:
        line, column = (node.end_lineno, node.end_col_offset) if end else (node.lineno, node.col_offset)
        assert line is not None
        assert column is not None
        text = self.lines[line - 1]
        return self.starts[line - 1] + len(text.encode()[:column].decode())  # columns count bytes


def _warns(node: ast.AST) -> bool:
    """Whether a node is a call whose arguments are only messages."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "warn"


def parses(source: str) -> bool:
    """Whether a changed source is still Python."""
    try:
        ast.parse(source)
    except (SyntaxError, ValueError):
        return False
    return True
