"""Encodes covariates: imputation with indicators, dummies against a stated reference level, days of dates."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from cqox_assets.mapping.columns import Kind, as_date, as_number, as_text, days_of

RARE = 0.01
MAX_LEVELS = 30
OTHER = "(other)"


@dataclass
class Encoded:
    """Encoded covariates in order, their readable labels and what was decided."""

    columns: dict[str, np.ndarray] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    constant: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    wide: dict[str, str] = field(default_factory=dict)
    imputed: list[str] = field(default_factory=list)

    def add(self, name: str, values: np.ndarray, label: str | None = None) -> None:
        """Add a column under a name that is still free."""
        while name in self.columns:
            name += "'"
        self.columns[name] = values
        if label is not None:
            self.labels[name] = label

    def summary(self) -> list[str]:
        """Return all notices, those about what was left out included."""
        said = list(self.notices)
        if self.imputed:
            said.append(f"missing covariate values were imputed and marked by an indicator: {_few(self.imputed)}")
        if self.empty:
            said.append(f"covariates without any value were left out: {_few(self.empty)}; fill them or unmap them")
        if self.constant:
            said.append(f"covariates with one value only were left out: {_few(self.constant)}")
        if self.wide:
            said.append(
                f"covariates with too many different words (ids, free text) were left out: {_few(list(self.wide))}; "
                f"nothing is adjusted for them ({'; '.join(list(self.wide.values())[:3])}); "
                f"deliver numbers or at most {MAX_LEVELS} levels, or unmap them"
            )
        return said

    @property
    def unusable(self) -> dict[str, str]:
        """Covariates that hold something that cannot be adjusted for, and what was found; a constant is none."""
        return {**{name: f"'{name}' has no value" for name in self.empty}, **self.wide}


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def encode_covariates(frame: pd.DataFrame, names: Sequence[str], kinds: dict[str, Kind]) -> Encoded:
    """Encode covariates as float64 columns without missing values.

    Numbers stay as they are, missing ones become the median (of two values: the more frequent) and an indicator column
    `<name> (missing)` says where; dates become days since the first one; words become dummies `<name>=<level>` against
    the most frequent level, with a level of their own for missing ones, and rare levels (below 1%, or beyond the 30
    most frequent) pooled as `<name>=(other)`. Constant columns and words of too many kinds are left out.

    Parameters
    ----------
    frame : DataFrame, shape (n, p)
    names : sequence of str
        Covariates, in the order wanted.
    kinds : mapping of str to Kind
    """
    encoded = Encoded()
    indicators: dict[bytes, str] = {}
    for name in names:
        if kinds[name] == Kind.TEXT:
            _encode_words(encoded, name, as_text(frame[name]))
        elif kinds[name] == Kind.EMPTY:
            encoded.empty.append(name)
        elif kinds[name] == Kind.DATE:
            days = days_of(as_date(frame[name]))
            days = days - (np.nanmin(days) if np.isfinite(days).any() else 0.0)
            encoded.notices.append(f"date covariate '{name}' became days since its first date")
            _encode_number(encoded, name, days, indicators, f"{name} (days since the first)")
        else:
            _encode_number(encoded, name, as_number(frame[name]), indicators, None)
    return encoded


def _encode_number(
    encoded: Encoded, name: str, numbers: np.ndarray, indicators: dict[bytes, str], label: str | None
) -> None:
    missing = ~np.isfinite(numbers)
    if missing.any():
        known = numbers[~missing]
        if not known.size:
            encoded.empty.append(name)
            return
        numbers = np.where(missing, _middle(known), numbers)
        encoded.imputed.append(f"{name} ({int(missing.sum())})")
    if numbers.size and numbers.min() == numbers.max():
        encoded.constant.append(name)
    else:
        encoded.add(name, numbers, label)
    if missing.any():
        _add_indicator(encoded, name, missing, indicators)


def _middle(known: np.ndarray) -> float:
    levels = np.unique(known[:1000])
    if len(levels) <= 2:
        levels, counts = np.unique(known, return_counts=True)
        if len(levels) <= 2:
            return float(levels[np.argmax(counts)])
    return float(np.median(known))


def _add_indicator(encoded: Encoded, name: str, missing: np.ndarray, indicators: dict[bytes, str]) -> None:
    """Add `<name> (missing)`, unless another covariate is missing in the very same rows: one indicator says it."""
    key = np.packbits(missing).tobytes()
    if key in indicators:
        twin = indicators[key]
        encoded.labels[twin] += f", and '{name}'"
        encoded.notices.append(
            f"'{name}' is missing where '{twin.removesuffix(' (missing)')}' is; one indicator marks both"
        )
        return
    indicators[key] = f"{name} (missing)"
    encoded.add(indicators[key], missing.astype(np.float64), f"missing: '{name}'")


def _encode_words(encoded: Encoded, name: str, words: pd.Series) -> None:
    codes, levels = pd.factorize(words)
    counts = np.bincount(codes[codes >= 0], minlength=len(levels))
    known = int(counts.sum())
    if not known:
        encoded.empty.append(name)
        return
    order = sorted(range(len(levels)), key=lambda code: (-counts[code], str(levels[code])))
    kept = [code for code in order[:MAX_LEVELS] if counts[code] >= RARE * known]
    pooled = order[len(kept) :]
    if len(pooled) == 1 and len(kept) < MAX_LEVELS:
        kept, pooled = order, []
    if len(levels) > max(2, known / 2) or counts[kept].sum() < known / 2:
        encoded.wide[name] = (
            f"'{name}' has {len(levels)} different values in {known} rows, such as '{str(levels[order[0]])[:40]}'"
        )
        return
    missing = codes < 0
    if len(order) == 1 and not missing.any():
        encoded.constant.append(name)
        return
    _add_dummies(encoded, name, codes, [(int(code), str(levels[code])) for code in kept], pooled)
    if missing.any():
        encoded.imputed.append(f"{name} ({int(missing.sum())})")
        encoded.add(f"{name} (missing)", missing.astype(np.float64), f"missing: '{name}'")


def _add_dummies(
    encoded: Encoded, name: str, codes: np.ndarray, kept: list[tuple[int, str]], pooled: Sequence[int]
) -> None:
    reference = kept[0][1]
    for code, level in sorted(kept[1:], key=lambda pair: pair[1]):
        encoded.add(f"{name}={level}", (codes == code).astype(np.float64), f"{name}: {level} (vs {reference})")
    if len(pooled):
        rare = np.isin(codes, pooled).astype(np.float64)
        encoded.add(f"{name}={OTHER}", rare, f"{name}: any other (vs {reference})")
        encoded.notices.append(f"{len(pooled)} rare levels of '{name}' were pooled as '{name}={OTHER}'")
    if len(kept) > 1 or len(pooled):
        encoded.notices.append(f"covariate '{name}' became dummies against its most frequent level '{reference}'")
