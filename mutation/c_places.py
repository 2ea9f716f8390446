"""Where C can be changed, and how: operators, numbers, conditions, statements, members of enumerations, signs.

No library does that for both a module of Python and a program of the kernel: this reads tokens, not a syntax tree. What
it gets wrong does not compile, and is counted apart.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from mutation.mutant import Mutant, changed_lines

_TOKEN = re.compile(
    r"""
    (?P<comment>/\*.*?\*/|//[^\n]*)
  | (?P<directive>^[ \t]*\#(?:\\\n|[^\n])*)
  | (?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
  | (?P<number>\b(?:0[xX][0-9a-fA-F]+|\d+)[uUlL]*\b)
  | (?P<name>\b[A-Za-z_]\w*\b)
  | (?P<sign>->|\+\+|--|<<=|>>=|<=|>=|==|!=|&&|\|\||<<|>>|[-+*/%&|^]=|[^\s\w])
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
_COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
_SIGNS = {
    **{sign: tuple(other for other in _COMPARISONS if other != sign) for sign in _COMPARISONS},
    "&&": ("||",),
    "||": ("&&",),
    "++": ("--",),
    "--": ("++",),
    "+=": ("-=", "="),
    "-=": ("+=", "="),
    "|=": ("&=", "="),
    "&=": ("|=", "="),
    "<<": (">>",),
    ">>": ("<<",),
    "+": ("-",),
    "-": ("+",),
    "/": ("*",),
    "%": ("/",),
    "|": ("&",),
    "&": ("|",),
}
_ONLY_BETWEEN_TWO = ("+", "-", "&", "*")
_WORDS = {"true": "false", "false": "true", "continue": "break", "break": "continue"}
_OF_OTHER_SIGN = {
    "uint8_t": "int8_t",
    "uint16_t": "int16_t",
    "uint32_t": "int32_t",
    "uint64_t": "int64_t",
    "__u8": "__s8",
    "__u16": "__s16",
    "__u32": "__s32",
    "__u64": "__s64",
    "size_t": "ssize_t",
    "unsigned": "int",
}
_NO_STATEMENT = (
    *("return", "goto", "break", "continue", "case", "default", "if", "else", "while", "for", "do", "switch"),
    *("struct", "union", "enum", "const", "static", "sizeof"),
)
_ASSIGNMENTS = ("=", "+=", "-=", "|=", "&=", "^=", "<<=", ">>=", "*=", "/=", "%=", "++", "--")


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


@dataclass(frozen=True)
class Place:
    """A stretch of a file, and what may stand there instead."""

    file: str
    where: str
    operator: str
    start: int
    end: int
    ways: tuple[str, ...]


def places(root: Path, file: str, enumerations: Sequence[Sequence[str]]) -> list[Place]:
    """All places in the functions of a file.

    Args:
        root: the top of the tree.
        file: one in C, relative to that.
        enumerations: the members of each, one of which may stand for another: `enumerations` below.
    """
    text = (root / file).read_text("utf-8")
    siblings = {name: tuple(other for other in names if other != name) for names in enumerations for name in names}
    return [
        Place(file, function, operator, start, end, ways)
        for function, tokens in _functions(text)
        for operator, start, end, ways in _in_function(text, tokens, siblings)
    ]


def mutant(root: Path, place: Place, draw: random.Random) -> Mutant:
    """One of the mutants of a place."""
    return _mutant(root, place, draw.choice(place.ways))


def with_keys(root: Path, found: Sequence[Place], keys: set[tuple[str, str, str, str]]) -> list[Mutant]:
    """The mutants of these places that have one of these keys; one for each key, where there are several."""
    mutants = (_mutant(root, place, way) for place in found for way in place.ways)
    return list({mutant.key: mutant for mutant in mutants if mutant.key in keys}.values())


def _mutant(root: Path, place: Place, way: str) -> Mutant:
    before = (root / place.file).read_text("utf-8")
    after = before[: place.start] + way + before[place.end :]
    first = before[: place.start].count("\n") + 1
    lines = first, first + before[place.start : place.end].count("\n")
    return Mutant(place.file, place.where, lines, place.operator, after, *changed_lines(before, after))


def enumerations(texts: Sequence[str]) -> list[list[str]]:
    """The members of each enumeration that has several, as in ``enum port { CLIENT, SERVER };``."""
    found = []
    for text in texts:
        tokens = _tokens(text)
        for at, token in enumerate(tokens):
            if token.text != "enum":
                continue
            opening = at + 1 if tokens[at + 1].text == "{" else at + 2
            if tokens[opening].text == "{":
                inside = tokens[opening : _matching(tokens, opening)]
                names = [
                    one.text for before, one in pairwise(inside) if one.kind == "name" and before.text in ("{", ",")
                ]
                if len(names) > 1:
                    found.append(names)
    return found


def _tokens(text: str) -> list[_Token]:
    found = [_Token(match.lastgroup or "", match.group(), match.start()) for match in _TOKEN.finditer(text)]
    return [token for token in found if token.kind not in ("comment", "directive")]


def _matching(tokens: Sequence[_Token], opening: int) -> int:
    """Where the bracket at ``opening`` closes."""
    pairs = {"(": ")", "{": "}", "[": "]"}
    opens, closes, depth = tokens[opening].text, pairs[tokens[opening].text], 0
    for at in range(opening, len(tokens)):
        depth += (tokens[at].text == opens) - (tokens[at].text == closes)
        if depth == 0:
            return at
    raise ValueError(f"a {opens} that does not close")


def _functions(text: str) -> Iterator[tuple[str, list[_Token]]]:
    """Name and body of each function: what stands in braces after a closing parenthesis, outside of all else."""
    tokens = _tokens(text)
    at = 0
    while at < len(tokens):
        if tokens[at].text == "{":
            end = _matching(tokens, at)
            if tokens[at - 1].text == ")":
                yield _name_before(tokens, at - 1), tokens[at : end + 1]
            at = end
        at += 1


def _name_before(tokens: Sequence[_Token], closing: int) -> str:
    depth = 0
    for at in range(closing, 0, -1):
        depth += (tokens[at].text == ")") - (tokens[at].text == "(")
        if depth == 0:
            return tokens[at - 1].text
    return ""


_Found = tuple[str, int, int, tuple[str, ...]]


def _in_function(text: str, tokens: Sequence[_Token], siblings: dict[str, tuple[str, ...]]) -> Iterator[_Found]:
    for at in range(1, len(tokens)):
        token, before = tokens[at], tokens[at - 1]
        if token.kind == "number":
            digits = token.text.rstrip("uUlL")
            value, suffix = int(digits, 0) if digits != "00" else 0, token.text[len(digits) :]
            yield "Number", token.start, token.end, tuple(f"{value + by}{suffix}" for by in (1, -1) if value + by >= 0)
        elif token.kind == "name":
            yield from _at_name(text, tokens, at, siblings)
        elif token.text in _SIGNS:
            operand = before.kind in ("name", "number") and before.text not in _NO_STATEMENT
            operand = operand or before.text in (")", "]")
            if operand or token.text not in _ONLY_BETWEEN_TWO:
                yield "Sign", token.start, token.end, _SIGNS[token.text]
        elif token.text == "!":
            yield "RemoveNot", token.start, token.end, ("",)


def _at_name(text: str, tokens: Sequence[_Token], at: int, siblings: dict[str, tuple[str, ...]]) -> Iterator[_Found]:
    token, after = tokens[at], tokens[at + 1]
    if token.text in siblings:
        yield "Enumeration", token.start, token.end, siblings[token.text]
    if token.text in _WORDS:
        yield "Word", token.start, token.end, (_WORDS[token.text],)
    if token.text in _OF_OTHER_SIGN:
        yield "OtherSign", token.start, token.end, (_OF_OTHER_SIGN[token.text],)
    if token.text in ("if", "while") and after.text == "(":
        start, end = after.end, tokens[_matching(tokens, at + 1)].start
        yield "Negation", start, end, (f"!({text[start:end]})",)
    if _begins_statement(tokens, at):
        end = next(number for number in range(at, len(tokens)) if tokens[number].text == ";")
        if _may_go(tokens[at:end]):
            yield "RemoveStatement", token.start, tokens[end].start, ("",)


def _begins_statement(tokens: Sequence[_Token], at: int) -> bool:
    return tokens[at].text not in _NO_STATEMENT and tokens[at - 1].text in (";", "{", "}", ")", "else", ":")


def _may_go(statement: Sequence[_Token]) -> bool:
    """A call, or an assignment to something that was declared before."""
    texts = [token.text for token in statement]
    if "{" in texts or "}" in texts or len(statement) < 2 or statement[1].kind == "name":
        return False
    if texts[1] == "(":
        return _matching(statement, 1) == len(statement) - 1
    declares = texts[1] == "*"
    return not declares and any(sign in texts for sign in _ASSIGNMENTS)
