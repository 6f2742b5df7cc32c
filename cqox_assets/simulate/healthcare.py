"""Patients of 2025, month by month: a specialised rehabilitation programme and the recovery that follows it.

The true effect of the programme is the same for every patient of a month and grows from month to month as the
programme matures: 3.00 points of recovery score in January and 0.25 more in each later month, 5.75 in December.
Within a month ATE, ATT and LATE are therefore equal.

Notes
-----
With s the measured severity, u an unmeasured frailty, a the age and b the baseline score (all but u are columns)::

    s, u ~ N(0, 1), independent          a ~ N(62, 11) within 20..95        distance ~ Gamma(2, 12) km
    b = 50 - 4 s - 0.1 (a - 62) + N(0, 5)
    programme ~ Bernoulli(expit(-0.1 + 0.8 s + 0.3 u + 0.01 (a - 62) - 0.09 (distance - 24)))
    recovery = 55 - 5 s - 1.5 u - 0.10 (a - 62) + 0.3 (b - 50) + hospital + effect(month) programme + N(0, 6)
    cost = 5200 + 900 s + 1400 programme + N(0, 600) EUR

Sicker patients enter the programme, so the raw difference is far too small. Distance to the specialised hospital moves
the programme and nothing else: it is a valid instrument, also against u. Adjusting for every measured column
leaves the bias of u, about -0.3 points: an E-value or a bound should notice that it is possible, and it
is small against the effect.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

SEED = 20250101
ROWS = 5000
MONTHS = tuple(f"2025-{month:02d}" for month in range(1, 13))
HOSPITALS = {"North": 0.8, "South": -0.6, "East": 0.0, "West": 0.4, "Harbour": -0.9, "University": 1.2}

DECLARATION = """\
question: Does the specialised rehabilitation programme raise the recovery score after 90 days?
design: observational
direction: higher_is_better
unit_of_outcome: points of recovery score
minimum_effect: 1.5
roles:
  outcome: recovery_score
  treatment: programme
  unit: patient_id
  time: null
  covariates: [age, sex, severity, comorbidities, prior_admissions, baseline_score, source_hospital]
  instruments: [distance_km]
  cost: cost_eur
  subgroup: source_hospital
money:
  value_per_unit: 600   # an example: what the payer would give for one point
  cost_per_treatment: 1400
  currency: EUR
"""


def truth() -> Mapping[str, Mapping[str, float]]:
    """Return the true effect by month, in points of recovery score: ``{"2025-01": {"ATE": 3.0, ...}, ...}``."""
    return {
        period: {estimand: 3.0 + 0.25 * index for estimand in ("ATE", "ATT", "LATE")}
        for index, period in enumerate(MONTHS)
    }


def draw(n: int = ROWS, seed: int = SEED, *, hidden: bool = False) -> pd.DataFrame:
    """Draw patients who are admitted on a random day of 2025.

    Parameters
    ----------
    n : int
        Number of patients in the whole year.
    seed : int
    hidden : bool
        Add the column `frailty`, which no analyst sees.

    Returns
    -------
    DataFrame of n rows
        One row per patient, sorted by admission date; `programme` is 0 or 1.
    """
    rng = np.random.default_rng(seed)
    day = np.sort(rng.integers(0, 365, n))
    admitted = pd.Timestamp("2025-01-01") + pd.to_timedelta(day, unit="D")
    severity, frailty = rng.normal(size=n), rng.normal(size=n)
    age = np.clip(np.round(rng.normal(62, 11, n)), 20, 95)
    distance = rng.gamma(2.0, 12.0, n)
    hospital = rng.choice(list(HOSPITALS), n)
    baseline = 50 - 4 * severity - 0.1 * (age - 62) + rng.normal(0, 5, n)
    score = -0.1 + 0.8 * severity + 0.3 * frailty + 0.01 * (age - 62) - 0.09 * (distance - 24)
    programme = (rng.random(n) < 1 / (1 + np.exp(-score))).astype(int)
    effect = 3.0 + 0.25 * (admitted.month.to_numpy() - 1)
    recovery = 55 - 5 * severity - 1.5 * frailty - 0.1 * (age - 62) + 0.3 * (baseline - 50)
    recovery += np.array([HOSPITALS[name] for name in hospital]) + effect * programme + rng.normal(0, 6, n)
    cost = 5200 + 900 * severity + 1400 * programme + rng.normal(0, 600, n)
    frame = pd.DataFrame(
        {
            "patient_id": [f"P{number:05d}" for number in range(1, n + 1)],
            "admission_date": admitted.strftime("%Y-%m-%d"),
            "source_hospital": hospital,
            "age": age.astype(int),
            "sex": rng.choice(["female", "male"], n),
            "severity": severity.round(3),
            "comorbidities": rng.poisson(1.4, n),
            "prior_admissions": rng.poisson(0.8, n),
            "baseline_score": baseline.round(1),
            "distance_km": distance.round(1),
            "programme": programme,
            "cost_eur": cost.round(2),
            "recovery_score": recovery.round(2),
        }
    )
    return frame.assign(frailty=frailty) if hidden else frame


def files() -> Mapping[str, bytes]:
    """Return the committed files, by path below the data folder: one table and one declaration per month."""
    patients, found = draw(), {}
    for period in MONTHS:
        month = patients[patients["admission_date"].str.startswith(period)]
        found[f"healthcare/{period}/patients.csv"] = month.to_csv(index=False, lineterminator="\n").encode()
        found[f"healthcare/{period}/study.yaml"] = DECLARATION.encode()
    return found
