"""What must hold of two arms, weights and clusters before anything is estimated from them."""

from collections.abc import Sequence

import numpy as np

from cqox_assets.errors import CqoxError
from cqox_assets.numerics.linear import LinearFit, fit_linear, independent_columns

_LEFT_OUT = "Left out as linear combinations of other columns:"


class TooFewRowsError(CqoxError):
    """There are not enough rows for the number of coefficients or for a variance."""

    code = "too_few_rows"


class ClusterError(CqoxError):
    """The cluster column cannot carry a clustered variance."""

    code = "too_few_clusters"


class CollinearTreatmentError(CqoxError):
    """The treatment is a linear combination of covariates, so its effect is not identified."""

    code = "collinear_treatment"


def check_arms(treated: np.ndarray, weights: np.ndarray | None = None, *, least: int = 2) -> None:
    """Check that both arms have at least `least` rows of positive weight.

    Parameters
    ----------
    treated : ndarray of shape (n,)
        1 or 0.
    weights : ndarray of shape (n,), optional
        Sampling weights.

    Raises
    ------
    TooFewRowsError
        With the arm's row count.
    """
    counted = np.ones(len(treated), dtype=bool) if weights is None else weights > 0
    for arm, word in ((1, "compared"), (0, "reference")):
        rows = int((counted & (treated == arm)).sum())
        if rows < least:
            raise TooFewRowsError(
                f"the {word} arm has {rows} {'row' if rows == 1 else 'rows'} with positive weight, "
                f"at least {least} are needed; deliver more rows of that arm"
            )


def check_clusters(cluster: np.ndarray | None) -> None:
    """Check that cluster codes are complete and tell at least two clusters apart.

    Raises
    ------
    ClusterError
        If labels are missing or all rows share one cluster.
    """
    if cluster is None:
        return
    if cluster.min() < 0:
        raise ClusterError(
            f"{int((cluster < 0).sum())} rows have no cluster label; fill the cluster column or unmap its role",
            code="missing_cluster",
        )
    if cluster.max() < 1:
        raise ClusterError("all rows share one cluster; map a cluster column with at least two values")


def regress(
    design: np.ndarray,
    outcome: np.ndarray,
    weights: np.ndarray | None,
    names: Sequence[str],
    *,
    term: int,
    treatment: str,
) -> LinearFit:
    """Fit least squares whose coefficient `term` must be identified.

    Parameters
    ----------
    design : ndarray of shape (n, k)
        Constant first; columns before `term` are kept before it, so a treatment that they span is found.
    outcome : ndarray of shape (n,)
    weights : ndarray of shape (n,), optional
    names : sequence of str
        Names of the design's columns.
    term : int
        Position of the treatment.
    treatment : str
        Name of the treatment column, for messages.

    Raises
    ------
    TooFewRowsError
        If there are no more rows of positive weight than coefficients.
    CollinearTreatmentError
        If the treatment is a linear combination of earlier columns; the message names those that it is made of.
    """
    rows = len(outcome) if weights is None else int((weights > 0).sum())
    if rows <= 2:
        raise TooFewRowsError(f"{rows} rows cannot carry a regression; deliver more rows")
    if rows <= design.shape[1] and rows <= len(independent_columns(design)):
        raise TooFewRowsError(
            f"{rows} rows for {design.shape[1]} columns of the regression; "
            "map fewer covariates or deliver more rows than columns"
        )
    fit = fit_linear(design, outcome, weights)
    if term not in fit.kept:
        culprits = _span(design[:, :term], design[:, term], names)
        raise CollinearTreatmentError(
            f"treatment '{treatment}' is a linear combination of {', '.join(culprits)}; "
            f"leave out {' or '.join(culprits)} from the covariates"
        )
    if fit.df_residual < 1:
        raise TooFewRowsError(
            f"{rows} rows for {len(fit.coef)} coefficients; map fewer covariates or deliver more rows than columns"
        )
    return fit


def _span(columns: np.ndarray, target: np.ndarray, names: Sequence[str]) -> list[str]:
    """Return the (at most three) columns that the target is mostly made of."""
    spread = columns.std(axis=0)
    moving = np.flatnonzero(spread > 0)
    if len(moving) == 0:
        return ["the constant"]
    scaled = (columns[:, moving] - columns[:, moving].mean(axis=0)) / spread[moving]
    share = np.linalg.lstsq(scaled, target - target.mean(), rcond=1e-9)[0]
    largest = np.argsort(-np.abs(share), kind="stable")[:3]
    return [f"'{names[moving[i]]}'" for i in largest if abs(share[i]) > 1e-6 * np.abs(share).max()]


def choose_covariance(asked: str, default: str, cluster: np.ndarray | None) -> tuple[str, list[str]]:
    """Return the covariance to use and what the reader must know about it.

    `asked` is `auto` or a name; `auto` is CR1 when clusters are mapped and `default` otherwise. Asking for an
    unclustered covariance although clusters are mapped is followed and said.
    """
    if asked == "auto":
        return ("CR1" if cluster is not None else default), []
    if cluster is not None and not asked.startswith("CR"):
        return asked, [f"Standard errors are {asked} as asked for; the mapped clusters do not enter them."]
    return asked, []


def words_of(kind: str, cluster: np.ndarray | None) -> str:
    """Return a covariance in words."""
    if kind.startswith("CR") and cluster is not None:
        return f"cluster-robust ({kind}, {int(cluster.max()) + 1} clusters)"
    if kind == "classical":
        return "classical (equal variances)"
    return f"heteroskedasticity-robust ({kind})"


def collinear_notice(dropped: Sequence[str]) -> list[str]:
    """Return the notice that names left-out columns, if there are any."""
    if not dropped:
        return []
    listed = ", ".join(f"'{name}'" for name in dropped[:10]) + (", ..." if len(dropped) > 10 else "")
    return [f"{_LEFT_OUT} {listed}."]


def redundant_notice(covariates: np.ndarray, names: Sequence[str], said: Sequence[str]) -> list[str]:
    """Return the notice that names covariates which are linear combinations of others, unless it was said before.

    Parameters
    ----------
    covariates : ndarray of shape (n, k)
    names : sequence of str
    said : sequence of str
        Notices of an estimator, which names the columns that it left out itself.
    """
    if covariates.shape[1] == 0 or len(covariates) <= covariates.shape[1] + 1:
        return []  # with fewer rows than columns every later column is one, which says nothing about the columns
    kept = independent_columns(np.column_stack([np.ones(len(covariates)), covariates])) - 1
    known = [notice for notice in said if notice.startswith(_LEFT_OUT)]
    extra = [names[j] for j in range(len(names)) if j not in set(kept.tolist())]
    extra = [name for name in extra if not any(f"'{name}'" in notice for notice in known)]
    if not extra:
        return []
    listed = ", ".join(f"'{name}'" for name in extra[:10]) + (", ..." if len(extra) > 10 else "")
    return [f"Covariates that are constant or linear combinations of others, so that they say nothing new: {listed}."]


def degrees_of_freedom(form: str, kind: str, residual: int, cluster: np.ndarray | None) -> float | None:
    """Return the degrees of freedom of an interval; None is the normal distribution.

    Parameters
    ----------
    form : str
        `normal`, `t`, or `auto`: t with clusters - 1 for a clustered covariance, normal otherwise.
    kind : str
        Name of the covariance.
    residual : int
        Rows minus coefficients.
    cluster : ndarray of int, shape (n,), optional
        Codes 0..G-1.
    """
    clustered = kind.startswith("CR") and cluster is not None
    if form == "normal" or (form == "auto" and not clustered):
        return None
    return float(cluster.max()) if clustered and cluster is not None else float(residual)
