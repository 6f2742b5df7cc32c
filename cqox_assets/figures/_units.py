"""Unit effects that figures draw from: whose they are, and the rows of the study that they belong to."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cqox_assets.errors import NotDrawnError
from cqox_assets.figures import _theme as theme
from cqox_assets.result import EffectEstimate
from cqox_assets.spec import Inputs
from cqox_assets.study import Role, Study


@dataclass(frozen=True)
class UnitEffects:
    """Predicted effects of the units of one contrast.

    Parameters
    ----------
    answer : EffectEstimate
        Whose they are.
    arm : str
        The compared arm.
    study : Study
        The rows, in the order of `rows`.
    rows : DataFrame
        `effect`, `score` (doubly robust) and, if known, `low` and `high`, one row per unit.
    arms : tuple of str
        All arms of the study, reference first.
    """

    answer: EffectEstimate
    arm: str
    study: Study
    rows: pd.DataFrame
    arms: tuple[str, ...]

    @property
    def colour(self) -> str:
        """Colour of the compared arm."""
        return theme.arm_colour(self.arms, self.arm)

    @property
    def words(self) -> str:
        """The contrast in words."""
        return f"{self.arm} against {self.arms[0]}"

    @property
    def effect(self) -> np.ndarray:
        """Predicted effects, shape (n,)."""
        return self.rows["effect"].to_numpy(dtype=float)

    @property
    def score(self) -> np.ndarray:
        """Doubly robust scores, shape (n,)."""
        return self.rows["score"].to_numpy(dtype=float)

    @property
    def sampling(self) -> np.ndarray:
        """Sampling weights of mean one, shape (n,)."""
        weight = self.study.weights()
        return np.ones(len(self.rows)) if weight is None else weight


def unit_effects(inputs: Inputs, most: int = 4) -> list[UnitEffects]:
    """Return the unit effects of the first estimate in plan order that has scores, one entry per contrast.

    Raises
    ------
    NotDrawnError
        If there are none, they are not those of this study's rows, or every unit has the same predicted effect.
    """
    for answer in inputs.answered().values():
        table = answer.tables.get("unit_effects")
        if table is None or not {"effect", "score", "row"} <= set(table):
            continue
        found = [_of(answer, arm, part, table, inputs.study.arms) for arm, part in inputs.study.contrasts()]
        held = [item for item in found if item is not None]
        if held:
            return held[:most]
    raise NotDrawnError("no estimator predicted effects for the units of this study")


def differing(inputs: Inputs, most: int = 4) -> list[UnitEffects]:
    """Return the unit effects of those contrasts in which units differ.

    Raises
    ------
    NotDrawnError
        If every unit has the same predicted effect.
    """
    found = unit_effects(inputs, most)
    moving = [item for item in found if np.ptp(item.effect) > 1e-12 * max(float(np.abs(item.effect).max()), 1e-300)]
    if not moving:
        name = found[0].answer.estimator.replace("_", " ")
        raise NotDrawnError(f"the {name} predicts the same effect for every unit, so there is nothing to rank")
    return moving


def _of(
    answer: EffectEstimate, arm: str, part: Study, table: pd.DataFrame, arms: tuple[str, ...]
) -> UnitEffects | None:
    rows = table[table["arm"] == arm] if "arm" in table else table
    place = rows["row"].to_numpy()
    if not len(place) or place.max() >= len(part):
        return None
    study = part.take(place) if len(place) != len(part) or (place != np.arange(len(part))).any() else part
    if "treated" in rows and (study.column(Role.TREATMENT) != rows["treated"].to_numpy()).any():
        return None
    kept = np.isfinite(rows[["effect", "score"]].to_numpy(dtype=float)).all(axis=1)
    if not kept.any():
        return None
    if not kept.all():
        study, rows = study.take(kept), rows[kept]
    return UnitEffects(answer, arm, study, rows.reset_index(drop=True), arms)
