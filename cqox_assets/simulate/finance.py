"""Loans at a bank that grants a lower rate from a credit score of 650 on: a sharp regression discontinuity.

The true effect of the lower rate on the bank's result per loan is 180 EUR at the cutoff. It grows by 0.5 EUR for
each point of score, so it is another number away from the cutoff, and no method that ignores the cutoff can find it.

Notes
-----
With r = score - 650, and all the rest continuous at the cutoff::

    score ~ 660 + 55 Z within 400..850 (one decimal)     income = exp(7.9 + 0.002 r + 0.35 Z) EUR a month
    lower_rate = 1[score >= 650]
    result = 900 + 2.2 r - 0.004 r^2 + 0.00001 r^3 + (180 + 0.5 r) lower_rate
             + 0.05 (income - 2700) + 0.004 (amount - 12000) + 250 Z  EUR

Every applicant is treated by the rule and the density of the score is smooth at 650, so a manipulation test and
covariate continuity at the cutoff should both pass.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

SEED = 20250650
ROWS = 10_000
CUTOFF = 650.0

DECLARATION = """\
question: What does the lower interest rate, granted from a credit score of 650 on, do to the result per loan?
design: cutoff
cutoff: 650
direction: higher_is_better
unit_of_outcome: EUR per loan over 24 months
minimum_effect: 50
roles:
  outcome: result_eur
  treatment: lower_rate
  unit: loan_id
  running_variable: credit_score
  # The score decides the treatment and drives the result, so whoever compares all loans must adjust for it.
  covariates: [credit_score, monthly_income_eur, amount_eur, term_months, age, years_employed, home_owner]
money:
  value_per_unit: 1
  currency: EUR
"""


def truth() -> Mapping[str, float]:
    """Return the true effect at the cutoff, in EUR per loan."""
    return {"LATE": 180.0}


def draw(n: int = ROWS, seed: int = SEED) -> pd.DataFrame:
    """Draw loans.

    Parameters
    ----------
    n : int
        Number of loans.
    seed : int

    Returns
    -------
    DataFrame of n rows
        One row per loan; `lower_rate` is `yes` exactly where `credit_score` is 650 or more.
    """
    rng = np.random.default_rng(seed)
    score = np.clip(rng.normal(660, 55, n), 400, 850).round(1)
    distance = score - CUTOFF
    income = np.exp(7.9 + 0.002 * distance + 0.35 * rng.normal(size=n)).round(0)
    amount = np.clip(rng.gamma(4.0, 3000.0, n), 1000, 60_000).round(-2)
    lower = score >= CUTOFF
    result = 900 + 2.2 * distance - 0.004 * distance**2 + 0.00001 * distance**3
    result += np.where(lower, 180 + 0.5 * distance, 0.0)
    result += 0.05 * (income - 2700) + 0.004 * (amount - 12_000) + rng.normal(0, 250, n)
    return pd.DataFrame(
        {
            "loan_id": [f"L{number:06d}" for number in range(1, n + 1)],
            "credit_score": score,
            "monthly_income_eur": income.astype(int),
            "amount_eur": amount.astype(int),
            "term_months": rng.choice([24, 36, 48, 60], n),
            "age": np.clip(rng.normal(43, 12, n), 18, 85).astype(int),
            "years_employed": rng.gamma(2.0, 4.0, n).round(1),
            "home_owner": rng.binomial(1, 0.45, n),
            "lower_rate": np.where(lower, "yes", "no"),
            "result_eur": result.round(2),
        }
    )


def files() -> Mapping[str, bytes]:
    """Return the committed files, by path below the data folder."""
    return {
        "finance/2025-01/loans.csv": draw().to_csv(index=False, lineterminator="\n").encode(),
        "finance/2025-01/study.yaml": DECLARATION.encode(),
    }
