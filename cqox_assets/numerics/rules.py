"""Conditions on one column, such as `l1 > 0`: how a parameter says who is treated."""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

_RULE = re.compile(r"(?P<column>.+?)\s*(?P<sign>>=|<=|==|!=|>|<)\s*(?P<number>[-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*")
_SIGNS: Mapping[str, Callable[[np.ndarray, float], np.ndarray]] = {
    ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">": operator.gt, "<": operator.lt,
}  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """A column, a sign and a number."""

    column: str
    sign: str
    number: float

    def __str__(self) -> str:
        return f"{self.column} {self.sign} {self.number:g}"

    def holds(self, values: np.ndarray) -> np.ndarray:
        """Return where the column's values fulfil the condition, shape (n,) of bool."""
        return np.asarray(_SIGNS[self.sign](values, self.number))


def read_rule(text: str) -> Rule | None:
    """Read `column sign number`; None if the text is no such condition."""
    found = _RULE.fullmatch(text.strip())
    if found is None:
        return None
    try:
        return Rule(found["column"].strip(), found["sign"], float(found["number"]))
    except ValueError:  # such as 1.2.3
        return None
