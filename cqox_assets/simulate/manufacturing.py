"""Batches of milled parts: a new coolant, used more often on hard alloys, and the tool wear that it saves.

The true effect depends on the alloy: -2 micrometres on grade A, -3 on B and -5 on C. With the shares and the use of the
coolant below, ATE = -2.90 and ATT = -1.45 / 0.44 = -3.295 micrometres.

Notes
-----
::

    alloy: A 50 %, B 30 %, C 20 %        P(new coolant | alloy) = 0.3, 0.5, 0.7
    wear = 20 + (0, 4, 9)[alloy] + effect[alloy] new + machine + 1.5 (feed - 6) / 0.8 + 0.02 (spindle hours - 400)
           + 0.1 (temperature - 22) + 0.8 night + N(0, 3)
    machine ~ N(0, 1.5) for each of 40 machines

The coolant is used where the wear is high, so the raw difference (about -0.8) hides most of the effect. Given the
alloy its use is random, so every method that adjusts for the listed covariates finds it. Batches of one machine share
its condition: standard errors are clustered by machine.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

SEED = 20250301
ROWS = 4000
MACHINES = 40
ALLOYS = ("A", "B", "C")
SHARES = (0.5, 0.3, 0.2)
USE = (0.3, 0.5, 0.7)
LEVELS = (0.0, 4.0, 9.0)
EFFECTS = (-2.0, -3.0, -5.0)

DECLARATION = """\
question: How much tool wear does the new coolant save per batch?
design: observational
direction: lower_is_better
unit_of_outcome: micrometres of flank wear per batch
minimum_effect: 1
roles:
  outcome: tool_wear_um
  treatment: coolant
  unit: batch_id
  time: null
  cluster: machine
  covariates: [alloy, feed_m_min, spindle_hours, temperature_c, shift]
  subgroup: alloy
  cost: coolant_cost_eur
contrast:
  reference: standard
  compared: [new]
money:
  value_per_unit: 4   # an example: one micrometre of wear costs 4 EUR of tool life
  cost_per_treatment: 3.2
  currency: EUR
"""


def truth() -> Mapping[str, float]:
    """Return the true effects on wear, in micrometres: ATE and ATT."""
    share, use, effect = np.array(SHARES), np.array(USE), np.array(EFFECTS)
    return {"ATE": float(share @ effect), "ATT": float((share * use) @ effect / (share @ use))}


def draw(n: int = ROWS, seed: int = SEED) -> pd.DataFrame:
    """Draw batches.

    Parameters
    ----------
    n : int
        Number of batches.
    seed : int

    Returns
    -------
    DataFrame of n rows
        One row per batch; `coolant` is `standard` or `new`.
    """
    rng = np.random.default_rng(seed)
    alloy = rng.choice(len(ALLOYS), n, p=SHARES)
    machine = rng.integers(0, MACHINES, n)
    new = rng.random(n) < np.array(USE)[alloy]
    feed = np.clip(rng.normal(6.0, 0.8, n), 3.0, 9.0)
    hours, temperature = rng.uniform(0, 800, n), rng.normal(22, 3, n)
    night = rng.random(n) < 0.4
    wear = 20 + np.array(LEVELS)[alloy] + np.where(new, np.array(EFFECTS)[alloy], 0.0)
    wear += rng.normal(0, 1.5, MACHINES)[machine] + 1.5 * (feed - 6.0) / 0.8 + 0.02 * (hours - 400)
    wear += 0.1 * (temperature - 22) + 0.8 * night + rng.normal(0, 3, n)
    day = np.sort(rng.integers(0, 31, n))
    return pd.DataFrame(
        {
            "batch_id": np.arange(100_001, 100_001 + n),
            "production_date": (pd.Timestamp("2025-01-01") + pd.to_timedelta(day, unit="D")).strftime("%Y-%m-%d"),
            "machine": [f"M{number:02d}" for number in machine + 1],
            "shift": np.where(night, "night", "day"),
            "alloy": np.array(ALLOYS)[alloy],
            "feed_m_min": feed.round(2),
            "spindle_hours": hours.round(1),
            "temperature_c": temperature.round(1),
            "coolant": np.where(new, "new", "standard"),
            "coolant_cost_eur": np.where(new, 8.4, 5.2),
            "tool_wear_um": wear.round(2),
        }
    )


def files() -> Mapping[str, bytes]:
    """Return the committed files, by path below the data folder."""
    return {
        "manufacturing/2025-01/batches.csv": draw().to_csv(index=False, lineterminator="\n").encode(),
        "manufacturing/2025-01/study.yaml": DECLARATION.encode(),
    }
