"""How the rows of a study are made up: arms, repeated rows, repeated units, missing cells."""

import numpy as np
import pandas as pd

from cqox_assets.diagnostics.balance import standardised_differences
from cqox_assets.study import Role, Study


def arm_table(study: Study) -> pd.DataFrame:
    """Return one row per treatment column and arm: `treatment`, `arm`, `rows` and `share` of all rows.

    Arms without rows are listed with 0. A continuous treatment gives an empty table.
    """
    parts = []
    for name in study.names(Role.TREATMENT) if study.arms else ():
        codes = pd.to_numeric(study.frame[name], errors="coerce")
        rows = [int((codes == code).sum()) for code in range(len(study.arms))]
        parts.append(pd.DataFrame({"treatment": study.label(name), "arm": list(study.arms), "rows": rows}))
    if not parts:
        return pd.DataFrame({"treatment": [], "arm": [], "rows": [], "share": []}).astype(
            {"treatment": "str", "arm": "str", "rows": "int64", "share": "float64"}
        )
    table = pd.concat(parts, ignore_index=True)
    return table.assign(share=table["rows"] / max(len(study), 1))


def repeated_share(frame: pd.DataFrame) -> float:
    """Return the share of rows that repeat an earlier row in every column; 0 for a frame without rows."""
    if frame.empty:
        return 0.0
    # One hash per row: comparing 200 columns pairwise would cost a hundred times more.
    contents = pd.util.hash_pandas_object(frame, index=False).to_numpy()
    return 1 - len(np.unique(contents)) / len(frame)


def shared_keys(frame: pd.DataFrame, columns: list[str]) -> int:
    """Return the number of rows whose values in `columns` another row has as well."""
    return int(frame.duplicated(subset=columns, keep=False).sum())


def raw_balance(study: Study) -> pd.DataFrame:
    """Return one row per compared arm and covariate: `arm`, `covariate` and `smd` (absolute, unadjusted).

    Sampling weights count. A contrast in which an arm has fewer than two rows, where no spread can be computed, is
    left out; so is a covariate with missing values.
    """
    codes, covariates, weights = study.column(Role.TREATMENT), study.matrix(), study.weights()
    labels = [study.label(name) for name in study.names(Role.COVARIATES)]
    parts = [no_balance()]
    for code, arm in enumerate(study.arms[1:], start=1):
        rows = (codes == 0) | (codes == code)
        treated = codes[rows] == code
        weight = None if weights is None else weights[rows]
        counted = np.ones(len(treated)) if weight is None else weight
        if min(treated.sum(), (~treated).sum()) < 2 or counted[treated].sum() * counted[~treated].sum() == 0:
            continue
        smd = np.abs(standardised_differences(covariates[rows], treated.astype(float), weight))
        parts.append(pd.DataFrame({"arm": arm, "covariate": labels, "smd": smd}))
    return pd.concat(parts, ignore_index=True).dropna(subset=["smd"]).reset_index(drop=True)


def no_balance() -> pd.DataFrame:
    """Return a balance table without rows."""
    return pd.DataFrame({"arm": [], "covariate": [], "smd": []}).astype(
        {"arm": "str", "covariate": "str", "smd": "float64"}
    )


def missing_table(study: Study) -> pd.DataFrame:
    """Return one row per delivered column: `column` (label) and `share` of cells missing before preparation."""
    return pd.DataFrame(
        {"column": [study.label(name) for name in study.missing], "share": [float(x) for x in study.missing.values()]}
    ).astype({"column": "str", "share": "float64"})
