"""Customers of a Japanese retailer and a coupon: Japanese names and values, Shift-JIS, missing cells and outliers.

The true effect of the coupon on the purchase amount is 1,500 yen for every customer: ATE = ATT = 1500.

Notes
-----
With rank the membership rank, past the amount bought in the previous quarter, and Z standard normal::

    rank: regular 50 %, silver 30 %, gold 20 %           P(coupon | rank) = 0.35, 0.50, 0.65
    past = 30000 + (0, 4000, 9000)[rank] + 8000 Z yen
    amount = 20000 + (0, 2000, 5000)[rank] + 0.10 (past - 33000) + 30 (age - 45) + 600 app + 1500 coupon + 4000 Z

Then the table is damaged as such tables are. 5 % of the customers buy in bulk, with 15,000 to 30,000 yen more
whether they had a coupon or not, and 5 % of the ages and past amounts were keyed with one zero too many. 15 %
of all cells of the table are empty: 2 % of the coupons, 5 % of the amounts, the rest in the covariates, all at random.
Rank and customer number are always known. Only the rank drives the coupon, so a method that adjusts for it and
leaves out the rows without outcome or treatment is unbiased in spite of the damage.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

SEED = 20250115
ROWS = 4000
RANKS = ("一般", "シルバー", "ゴールド")
MISSING_SHARE = 0.15
OUTLIER_SHARE = 0.05
EFFECT_YEN = 1500.0

DECLARATION = """\
question: クーポンは購入金額をいくら増やすか (How much more do customers buy with a coupon?)
design: observational
direction: higher_is_better
unit_of_outcome: 円
minimum_effect: 300
missing: impute_indicator
roles:
  outcome: 購入金額
  treatment: クーポン
  unit: 顧客番号
  time: null
  covariates: [会員ランク, 年齢, 性別, 店舗, 来店回数, 過去購入額, アプリ利用]
  subgroup: 会員ランク
contrast:
  reference: いいえ
  compared: [はい]
money:
  value_per_unit: 0.25   # an example: the margin on one yen of sales
  cost_per_treatment: 100
  currency: JPY
"""


def truth() -> Mapping[str, float]:
    """Return the true effects on the purchase amount, in yen: ATE and ATT."""
    return {"ATE": EFFECT_YEN, "ATT": EFFECT_YEN}


def draw(n: int = ROWS, seed: int = SEED) -> pd.DataFrame:
    """Draw customers, with missing cells and outliers.

    Parameters
    ----------
    n : int
        Number of customers.
    seed : int

    Returns
    -------
    DataFrame of n rows
        One row per customer; `クーポン` (coupon) is はい (yes), いいえ (no) or missing.
    """
    rng = np.random.default_rng(seed)
    return _damage(_draw_clean(rng, n), rng)


def _draw_clean(rng: np.random.Generator, n: int) -> pd.DataFrame:
    rank = rng.choice(3, n, p=(0.5, 0.3, 0.2))
    coupon = rng.random(n) < np.array((0.35, 0.50, 0.65))[rank]
    age = np.clip(rng.normal(45, 14, n), 18, 90).round()
    app = rng.random(n) < 0.55
    past = 30_000 + np.array((0.0, 4000.0, 9000.0))[rank] + rng.normal(0, 8000, n)
    amount = 20_000 + np.array((0.0, 2000.0, 5000.0))[rank] + 0.10 * (past - 33_000) + 30 * (age - 45)
    amount += 600 * app + EFFECT_YEN * coupon + rng.normal(0, 4000, n)
    day = rng.integers(0, 31, n)
    return pd.DataFrame(
        {
            "顧客番号": [f"{number:06d}" for number in range(1, n + 1)],
            "来店日": (pd.Timestamp("2025-01-01") + pd.to_timedelta(day, unit="D")).strftime("%Y/%m/%d"),
            "店舗": rng.choice(["渋谷店", "新宿店", "横浜店", "大阪店", "名古屋店"], n),
            "性別": rng.choice(["男", "女"], n),
            "年齢": age,
            "会員ランク": np.array(RANKS)[rank],
            "来店回数": rng.poisson(4, n).astype(float),
            "過去購入額": past.round(),
            "アプリ利用": np.where(app, "はい", "いいえ"),
            "クーポン": np.where(coupon, "はい", "いいえ"),
            "購入金額": amount.round(),
        }
    )


def _damage(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Add the outliers, then empty the cells."""
    n = len(frame)
    bulk = rng.random(n) < OUTLIER_SHARE
    frame.loc[bulk, "購入金額"] += rng.uniform(15_000, 30_000, int(bulk.sum())).round()
    for name in ("年齢", "過去購入額"):
        frame.loc[rng.random(n) < OUTLIER_SHARE, name] *= 10
    emptied = 0
    for name, share in (("クーポン", 0.02), ("購入金額", 0.05)):
        rows = rng.permutation(n)[: round(share * n)]
        frame.loc[rows, name] = None
        emptied += len(rows)
    rest = ["来店日", "店舗", "性別", "年齢", "来店回数", "過去購入額", "アプリ利用"]
    cells = rng.permutation(n * len(rest))[: round(MISSING_SHARE * frame.size) - emptied]
    for position, name in enumerate(rest):
        frame.loc[cells[cells % len(rest) == position] // len(rest), name] = None
    return frame.astype({name: "Int64" for name in ("年齢", "来店回数", "過去購入額", "購入金額")})


def files() -> Mapping[str, bytes]:
    """Return the committed files, by path below the data folder; the table as a Japanese Excel would save it."""
    return {
        "retail/2025-01/coupon.csv": draw().to_csv(index=False, lineterminator="\r\n").encode("shift_jis"),
        "retail/2025-01/study.yaml": DECLARATION.encode(),
    }
