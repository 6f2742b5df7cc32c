"""Residuals of the linear regression of the outcome on treatment and covariates."""

import numpy as np
import pandas as pd

from cqox_assets.errors import MappingError
from cqox_assets.numerics.linear import fit_linear, with_constant
from cqox_assets.study import Role, Study, TreatmentKind


def residual_table(study: Study) -> pd.DataFrame:
    """Return one row per row of the study: fitted, residual, leverage and the studentised residual.

    Raises
    ------
    MappingError
        If there are no more rows than coefficients, or the fit is exact.

    Notes
    -----
    Internally studentised: e / (s sqrt(1 - h)). Arms enter as dummies, a continuous treatment as it is.
    """
    study = study.studied()
    y, columns = study.column(Role.OUTCOME), [study.matrix()]
    if study.has(Role.TREATMENT):
        treatment = study.matrix(Role.TREATMENT)
        if study.treatment_kind is TreatmentKind.CATEGORICAL:
            treatment = np.column_stack([treatment[:, 0] == code for code in range(1, len(study.arms))]).astype(float)
        columns.insert(0, treatment)
    fit = fit_linear(with_constant(*columns), y, study.weights())
    if fit.df_residual < 1:
        raise MappingError(f"{len(y)} rows leave nothing over from {len(fit.coef)} coefficients; map fewer covariates")
    leverage = np.clip(fit.leverage(), 0.0, 1.0)
    scale = float(np.sqrt(fit.weights @ fit.residuals**2 / fit.df_residual))
    if not scale > 1e-12 * max(float(np.abs(y).max(initial=0.0)), 1e-300):
        raise MappingError("the regression explains the outcome exactly, so it leaves no residuals")
    room = np.sqrt(np.maximum(1 - leverage, 1e-8))
    return pd.DataFrame(
        {
            "fitted": y - fit.residuals,
            "residual": fit.residuals,
            "leverage": leverage,
            "studentised": np.sqrt(fit.weights) * fit.residuals / scale / room,
        }
    )
