"""The names in an expression of Prometheus' query language, as far as rules and dashboard of deploy/ need it."""

import re

_STRINGS = re.compile(r'"[^"]*"')
_MATCHERS = re.compile(r"\{([^}]*)\}")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_LABEL_LISTS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_WINDOWS = re.compile(r"\[[^\]]*\]")
_NAMES = re.compile(r"\b[a-zA-Z_:][\w:]*\b(?!\s*\()")
_WORDS = {"and", "or", "unless", "bool", "offset", "group_left", "group_right", "by", "on", "ignoring", "without"}


def metric_names(expression: str) -> set[str]:
    """All that is neither function nor label nor keyword."""
    for noise in (_STRINGS, _LABEL_LISTS, _MATCHERS, _WINDOWS):
        expression = noise.sub(" ", expression)
    return set(_NAMES.findall(expression)) - _WORDS


def label_names(expression: str) -> set[str]:
    """Labels that are selected or grouped by."""
    lists = [name for names in _LABEL_LISTS.findall(expression) for name in re.findall(r"\w+", names)]
    return {*lists, *(name for name, _, _ in _matchers(expression))}


def label_values(expression: str) -> set[tuple[str, str]]:
    """Label and value of every choice that is named in full: `a|b` names two, `$instance` and `.*` none."""
    return {
        (name, value)
        for name, _, pattern in _matchers(expression)
        for value in pattern.split("|")
        if value.isidentifier()
    }


def _matchers(expression: str) -> list[tuple[str, str, str]]:
    return [found for inside in _MATCHERS.findall(expression) for found in _MATCHER.findall(inside)]
