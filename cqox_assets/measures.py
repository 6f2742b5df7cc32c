"""The measures that gates judge: one definition, limit and severity each, used by every stage alike."""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from cqox_assets.errors import CatalogError


class Status(StrEnum):
    """Of a gate, check or diagnostic; `not_run` is never counted as passed."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"
    NOT_RUN = "not_run"


@dataclass(frozen=True)
class Measure:
    """One number that speaks for or against an assumption.

    Parameters
    ----------
    name, title : str
        Stable name; the words that people read.
    definition : str
        What the number is, in one sentence.
    direction : str
        `above`: the value must be greater than the limit; `below`: less; `reported`: no limit, it only informs.
    limit : float
        Beyond it the status is `warn` (or `fail` when the severity is `block`).
    fail_limit : float, optional
        Beyond it the status is `fail` whatever the severity: so bad that the answer cannot be relied on.
    severity : str
        `warn` weighs in the verdict, `block` stops the run.
    meaning, remedy : str
        What a missed limit means, and what to do about it.
    """

    name: str
    title: str
    definition: str
    direction: str = "reported"
    limit: float = math.nan
    fail_limit: float | None = None
    severity: str = "warn"
    meaning: str = ""
    remedy: str = ""
    reference: str = ""


@dataclass(frozen=True)
class Diagnostic:
    """A measure's value for one study or estimate, judged.

    `value` is None when the measure could not be computed (`not_run`); `detail` is one sentence. `threshold` and
    `fail_threshold` are the limits that it was judged by, so that a reader can judge it again. `applies` is False
    where the study has nothing that the measure speaks about (no covariates, no units): `not_run`, and no bad news.
    """

    name: str
    value: float | None
    threshold: float | None
    status: Status
    detail: str
    severity: str = "warn"
    reference: str = ""
    fail_threshold: float | None = None
    applies: bool = True


MEASURES: Mapping[str, Measure] = {
    measure.name: measure
    for measure in (
        Measure(
            "rows", "Rows", "number of rows that can be analysed", "above", 49, severity="block",
            meaning="There are too few rows to estimate anything.", remedy="Deliver at least 50 complete rows.",
        ),
        Measure(
            "rows_per_arm", "Rows in the smallest arm", "number of rows in the smallest treatment arm", "above", 9,
            severity="block", meaning="One arm is too small to compare.",
            remedy="Deliver at least 10 rows per arm, or merge arms before delivery.",
        ),
        Measure(
            "arms", "Treatment arms", "number of treatment arms with rows", "above", 1, severity="block",
            meaning="Every row has the same treatment, so there is nothing to compare.",
            remedy="Map a treatment column that varies in study.yaml under roles: treatment.",
        ),
        Measure(
            "outcome_levels", "Distinct outcome values", "number of distinct outcome values", "above", 1,
            severity="block", meaning="The outcome is the same in every row.",
            remedy="Map an outcome that varies in study.yaml under roles: outcome.",
        ),
        Measure(
            "treatment_confidence", "Confidence in the treatment column",
            "how sure the mapping of the treatment is, 0 to 1", "above", 0.6, severity="block",
            meaning="It is not certain which column is the treatment.",
            remedy="Confirm it in study.yaml: roles: {treatment: <column>}.",
        ),
        Measure(
            "outcome_confidence", "Confidence in the outcome column",
            "how sure the mapping of the outcome is, 0 to 1", "above", 0.6, severity="block",
            meaning="It is not certain which column is the outcome.",
            remedy="Confirm it in study.yaml: roles: {outcome: <column>}.",
        ),
        Measure(
            "duplicated_unit_periods", "Duplicated unit-periods", "rows that share unit and period with another row",
            "below", 1, severity="block", meaning="A unit appears twice in one period.",
            remedy="Deliver one row per unit and period.",
        ),
        Measure(
            "missing_outcome", "Rows without outcome", "rows whose outcome is missing after preparation", "below", 1,
            severity="block", meaning="Estimators would read rows that have no outcome.",
            remedy="Deliver the outcome of every row, or state missing: drop in study.yaml.",
        ),
        Measure(
            "unknown_treatment", "Rows with unknown treatment",
            "rows whose treatment is missing or is no arm of the study", "below", 1, severity="block",
            meaning="It is not known which group some rows belong to.",
            remedy="Correct the treatment column, or name the arms to compare in study.yaml under contrast.",
        ),
        Measure(
            "missing_cells", "Missing cells after preparation",
            "cells without a value in the covariates, unit, time and cluster columns after preparation", "below", 1,
            severity="block", meaning="Estimators would read cells that have no value.",
            remedy="State missing: impute_indicator or missing: drop in study.yaml, or unmap the named columns.",
        ),
        Measure(
            "invalid_weights", "Invalid sampling weights", "rows whose sampling weight is missing or negative",
            "below", 1, severity="block", meaning="Sampling weights must be zero or positive.",
            remedy="Correct the weight column, or unmap the role weight in study.yaml.",
        ),
        Measure(
            "table_expectations", "Expectations of the prepared table",
            "expectations of the prepared table that are not met", "below", 1, severity="block",
            meaning="The prepared table is not what estimators can read.",
            remedy="Correct what is named here and deliver the file again.",
        ),
        Measure(
            "declared_blocks", "Gates declared as blocking",
            "failed gates that block only because study.yaml or the domain profile says so", "below", 1,
            severity="block", meaning="A gate that was declared as blocking failed.",
            remedy="Correct the data, or declare the gate's severity as warn in study.yaml under severities.",
        ),
        Measure(
            "missing_share", "Missing cells", "share of cells that were missing before preparation", "below", 0.3,
            meaning="Much of the table had to be imputed or dropped.",
            remedy="Check the source, or state missing: drop in study.yaml and compare.",
        ),
        Measure(
            "duplicate_rows", "Duplicate rows", "share of rows that repeat another row in every column", "below", 0.5,
            meaning="Most rows are copies of others; standard errors would be too small.",
            remedy="Remove copies, or map the repeated unit as cluster.",
        ),
        Measure(
            "raw_smd", "Raw imbalance", "largest difference of covariate means over the pooled SD, unadjusted",
            "below", meaning="The groups differ before any adjustment by more than was declared acceptable.",
            remedy="Map the covariates that decide who is treated, so that estimators can adjust for them.",
            reference="Austin 2009, doi:10.1002/sim.3697",
        ),
        Measure(
            "assignment_p", "Test of assignment at random (p)",
            "p-value of the test that the covariates do not tell who was treated", "above", 0.01,
            meaning="The covariates tell who was treated, so assignment was not random, or it went wrong.",
            remedy="Use an estimator that adjusts for the covariates, and find out how units came into their arms.",
            reference="Hansen & Bowers 2008, doi:10.1214/08-STS254",
        ),
        Measure(
            "specification_p", "Test of the linear model (p)",
            "p-value of Ramsey's test that the regression needs no bends", "above",
            0.01, meaning="The outcome bends or interacts where the regression is straight; what it adjusts for may be "
            "adjusted for wrongly.",
            remedy="Use an estimator with flexible outcome models (aipw, double_ml), or map squares and products.",
            reference="Ramsey 1969, doi:10.1111/j.2517-6161.1969.tb00796.x",
        ),
        Measure(
            "vif", "Variance inflation", "largest variance inflation factor of the covariates", "below", 10,
            meaning="Covariates are almost linear combinations of one another.",
            remedy="Leave out one of the named covariates; the effect is still estimable, its adjustment is noisy.",
            reference="Belsley, Kuh & Welsch 1980, doi:10.1002/0471725153",
        ),
        Measure(
            "adjusted_smd", "Imbalance after adjustment",
            "largest difference of covariate means over the pooled SD, after the estimator's weights or matches",
            "below", 0.1, 0.25, meaning="The groups still differ after adjustment.",
            remedy="Trim to the common support, add covariates or use a more flexible propensity model.",
            reference="Austin 2009, doi:10.1002/sim.3697",
        ),
        Measure(
            "overlap", "Overlap", "share of units whose propensity lies in the range common to all arms "
            "(1st to 99th percentile)", "above", 0.8, 0.5,
            meaning="Many units have no comparable unit in the other arm, so the answer rests on extrapolation.",
            remedy="Restrict the study to comparable units (trim), or ask for the effect on the treated.",
            reference="Crump et al. 2009, doi:10.1093/biomet/asn055",
        ),
        Measure(
            "effective_sample_size", "Effective sample size",
            "(sum w)^2 / sum w^2 over n, in the smallest arm", "above", 0.7, 0.1,
            meaning="Few units carry most of the weight.", remedy="Trim extreme propensities or use overlap weights.",
            reference="Kish 1965",
        ),
        Measure(
            "weight_range", "Largest weight", "largest weight over the mean weight, within arm", "below", 20, 100,
            meaning="A single unit can move the answer.", remedy="Trim extreme propensities or use overlap weights.",
            reference="Cole & Hernan 2008, doi:10.1093/aje/kwn164",
        ),
        Measure(
            "treatment_variation", "Variation of the treatment",
            "share of the treatment's variance that the covariates leave unexplained, out of fold", "above", 0.1, 0.01,
            meaning="The covariates all but determine the treatment, so little of it is left to compare.",
            remedy="Leave out covariates that the treatment decides or that decide it without touching the outcome.",
            reference="Chernozhukov et al. 2018, doi:10.1111/ectj.12097",
        ),
        Measure(
            "dose_balance", "Balance of the dose",
            "largest weighted correlation of the dose with a covariate, after weighting by marginal over conditional "
            "density", "below", 0.1, 0.25, meaning="The weighted dose still goes with covariates.",
            remedy="Use another learner for the dose, leave out extreme doses, or raise ratio_limit.",
            reference="Zhu, Coffman & Ghosh 2015, doi:10.1515/jci-2014-0022",
        ),
        Measure(
            "dose_overlap", "Overlap along the dose",
            "share of pairs of unit and dose on the curve where the dose is one that units like it received", "above",
            0.8, 0.5, meaning="Much of the curve is extrapolation: units like these never received such doses.",
            remedy="Restrict the study to comparable units, or read the curve only where few units are extrapolated.",
            reference="Hirano & Imbens 2004, doi:10.1002/0470090456.ch7",
        ),
        Measure(
            "rows_near_dose", "Rows near each dose",
            "effective number of rows, weights counted, that the curve rests on where it rests on fewest", "above",
            20, 5,
            meaning="A part of the curve rests on very few rows.",
            remedy="Read the curve where doses are common, widen the bandwidth, or deliver more rows.",
            reference="Kennedy, Ma, McHugh & Small 2017, doi:10.1111/rssb.12212",
        ),
        Measure(
            "matched_share", "Matched share", "matched treated units over treated units", "above", 0.8, 0.5,
            meaning="Many treated units found no match, so the answer is about a part of them.",
            remedy="Widen the caliper or allow replacement, and read the effect as that of the matched.",
            reference="Rosenbaum & Rubin 1985, doi:10.1080/00031305.1985.10479383",
        ),
        Measure(
            "stratum_arms", "Rows per stratum and arm", "rows in the smallest arm of any propensity stratum",
            "above", 4, 0, meaning="A stratum compares almost nobody with somebody.",
            remedy="Use fewer strata, or trim to the common support.",
            reference="Rosenbaum & Rubin 1984, doi:10.1080/01621459.1984.10478078",
        ),
        Measure(
            "e_value_limit", "E-value of the interval",
            "risk-ratio strength a hidden confounder needs with both treatment and outcome to move the interval to "
            "the null", "above", 1.25, meaning="A weak hidden confounder could explain the result away.",
            remedy="Measure and map the likeliest confounders, or run a trial.",
            reference="VanderWeele & Ding 2017, doi:10.7326/M16-2607",
        ),
        Measure(
            "robustness_value", "Robustness value of the interval",
            "partial R2 with treatment and outcome that a hidden confounder needs to move the interval to the null",
            "above", 0.02, meaning="A weak hidden confounder could explain the result away.",
            remedy="Measure and map the likeliest confounders, or run a trial.",
            reference="Cinelli & Hazlett 2020, doi:10.1111/rssb.12348",
        ),
        Measure(
            "rosenbaum_gamma", "Rosenbaum's gamma",
            "factor on the odds of treatment within matched pairs that a hidden bias needs to explain the result away",
            "above", 1.2,
            meaning="A small hidden bias within the matched pairs could explain the result away.",
            remedy="Measure and match on the likeliest confounders, or run a trial.",
            reference="Rosenbaum 2002, doi:10.1007/978-1-4757-3692-2",
        ),
        Measure(
            "specification_agreement", "Agreement of the specifications",
            "share of the specifications of the same estimand whose estimate lies on the estimate's side of no effect",
            "above", 0.9, meaning="Other choices of estimator, covariates or rows give an effect of the other sign.",
            remedy="Read the specifications that differ, and decide by the subject which choice is right.",
            reference="Simonsohn, Simmons & Nelson 2020, doi:10.1038/s41562-020-0912-z",
        ),
        Measure(
            "first_stage_f", "First-stage F", "effective F statistic of the instruments in the first stage", "above",
            10,
            meaning="The instruments barely move the treatment, so the usual interval cannot be trusted.",
            remedy="Read the Anderson-Rubin set, which holds however weak they are, or map stronger instruments.",
            reference="Montiel Olea & Pflueger 2013, doi:10.1080/00401706.2013.806694",
        ),
        Measure(
            "overidentification_p", "Test of agreement of the instruments (p)",
            "p-value of the test that all instruments give the same effect", "above", 0.05,
            meaning="The instruments contradict one another: not all are valid, or they move units with other effects.",
            remedy="Leave out the instrument that may reach the outcome on another way, or report each by itself.",
            reference="Hansen 1982, doi:10.2307/1912775",
        ),
        Measure(
            "density_p", "Test of density at the cutoff (p)",
            "p-value of the test that the running variable's density is continuous", "above", 0.05,
            meaning="Units may have chosen their side of the cutoff.",
            remedy="Find out how the running variable came about; leave out rows right at the cutoff and compare.",
            reference="Cattaneo, Jansson & Ma 2020, doi:10.1080/01621459.2019.1635480",
        ),
        Measure(
            "covariate_continuity_p", "Test of covariates at the cutoff (p)",
            "smallest p-value of a jump in a covariate at the cutoff, times the number of covariates", "above", 0.05,
            meaning="A covariate jumps at the cutoff, so units on the two sides are not alike.",
            remedy="Find out what else changes at the cutoff; the jump of the outcome includes it.",
            reference="Lee & Lemieux 2010, doi:10.1257/jel.48.2.281",
        ),
        Measure(
            "rows_near_cutoff", "Rows near the cutoff", "rows within the bandwidth, on the side that has fewer",
            "above", 30, meaning="The jump rests on few rows.", remedy="Deliver more rows near the cutoff.",
        ),
        Measure(
            "treatment_jump_f", "Jump of the treatment", "squared ratio of the treatment's jump to its standard error",
            "above", 10, meaning="The treatment barely jumps at the cutoff, so the ratio of jumps cannot be trusted.",
            remedy="Read the effect of crossing the cutoff instead, or deliver more rows near the cutoff.",
            reference="Feir, Lemieux & Marmer 2016, doi:10.1080/07350015.2015.1024836",
        ),
        Measure(
            "endogeneity_p", "Test of the need for an instrument (p)",
            "p-value of the Wu-Hausman test that least squares would do",
            reference="Hausman 1978, doi:10.2307/1913827",
        ),
        Measure(
            "pretrend_p", "Pre-trend test (p)",
            "p-value of the joint test that no effect shows before treatment starts",
            "above", 0.05, 0.001,
            meaning="The groups already moved apart before treatment started, so parallel trends are doubtful.",
            remedy="Add covariates that explain the trends, choose comparable units, or bound the violation.",
            reference="Callaway & Sant'Anna 2021, doi:10.1016/j.jeconom.2020.12.001",
        ),
        Measure(
            "trend_breakdown", "Breakdown of parallel trends",
            "how many times the largest step of the groups' difference before treatment its steps after treatment may "
            "be before the robust interval reaches no effect", "above", 1,
            meaning="A difference in trends no larger than what was seen before treatment could explain the effect.",
            remedy="Choose units that moved alike before treatment, deliver more of them, or more earlier periods.",
            reference="Rambachan & Roth 2023, doi:10.1093/restud/rdad018",
        ),
        Measure(
            "treated_clusters", "Treated clusters", "number of clusters with treated units", "above", 4,
            meaning="The standard error rests on very few treated clusters and is likely too small.",
            remedy="Use synthetic_control with its placebo test, or deliver more treated clusters.",
            reference="MacKinnon & Webb 2018, doi:10.1111/ectj.12107",
        ),
        Measure(
            "durbin_watson", "Durbin-Watson", "Durbin-Watson statistic of the residuals, d or 4 - d if that is less",
            "above", 1.2, 0.5,
            meaning="What the model leaves over carries on from period to period, so trend or season is not captured.",
            remedy="Add seasonality or covariates, use Newey-West standard errors, or a control series.",
            reference="Durbin & Watson 1950, doi:10.2307/2332391",
        ),
        Measure(
            "mediator_interaction_p", "Test of interaction of treatment and mediator (p)",
            "p-value of the products of treatment and mediators, added to the outcome model", "above", 0.05,
            meaning="The mediator acts differently in the two arms, which the model leaves out.",
            remedy="Set interaction: true.", reference="Imai, Keele & Tingley 2010, doi:10.1037/a0020761",
        ),
        Measure(
            "mediator_confounding", "Confounding that removes the mediated effect",
            "correlation of the noises of mediator and outcome at which no mediated effect would be left", "above", 0.1,
            meaning="A weak hidden common cause of mediator and outcome could explain the mediated effect away.",
            remedy="Map the common causes of mediator and outcome as covariates.",
            reference="Imai, Keele & Yamamoto 2010, doi:10.1214/10-STS321",
        ),
        Measure(
            "exposure_probability", "Smallest exposure probability",
            "smallest probability of a compared exposure among the units that can have it", "above", 0.01, 0.0001,
            meaning="Some units almost never have a compared exposure, so those that do count very much.",
            remedy="Use the Hajek form, an exposure by share of treated neighbours, or leave out the ties of hubs.",
            reference="Aronow & Samii 2017, doi:10.1214/16-AOAS1005",
        ),
        Measure(
            "exposure_share", "Units that can have every exposure",
            "share of units whose design lets them have every compared exposure", "above", 0.8, 0.5,
            meaning="The contrast leaves out units that can never have one of its exposures.",
            remedy="Read it as the effect on the units that can, or choose exposures that more units can have.",
            reference="Aronow & Samii 2017, doi:10.1214/16-AOAS1005",
        ),
        Measure(
            "design_p", "Test of the stated assignment (p)",
            "p-value of the tests that as many are treated, and treated together along ties, as the stated assignment "
            "says, times the number of tests", "above", 0.01, 1e-6,
            meaning="Treatment was not assigned as stated, so exposure probabilities are wrong.",
            remedy="State the probability, the propensity of each unit, or the clusters that were treated together.",
            reference="Aronow & Samii 2017, doi:10.1214/16-AOAS1005",
        ),
        Measure(
            "target_overlap", "Target units that could have been studied",
            "share of target units whose chance of being studied lies between the studied's 1st and 99th percentile",
            "above", 0.8, 0.5, meaning="Much of the target has no studied unit like it, so the answer extrapolates.",
            remedy="Restrict the target to units like the studied, or leave out the covariate that decides who was "
            "studied if it does not change the effect.",
            reference="Stuart et al. 2011, doi:10.1111/j.1467-985X.2010.00673.x",
        ),
        Measure(
            "proxy_f", "Strength of the proxies",
            "F statistic of the treatment proxies for the outcome proxies, in their weakest direction", "above", 10,
            meaning="The treatment proxies barely tell the outcome proxies, so the hidden confounder is hardly "
            "accounted for and the usual interval cannot be trusted.",
            remedy="Map stronger proxies, or fewer outcome proxies.",
            reference="Cragg & Donald 1993, doi:10.1017/S0266466600007519",
        ),
        Measure(
            "proxy_correlation", "Correlation of the proxies",
            "smallest canonical correlation of treatment and outcome proxies, given treatment and covariates",
            reference="Miao, Geng & Tchetgen Tchetgen 2018, doi:10.1093/biomet/asy038",
        ),
        Measure(
            "spatial_dependence_p", "Test of spatial dependence (p)",
            "p-value of Moran's I of least-squares residuals; small: neighbours are alike beyond the regressors",
            reference="Cliff & Ord 1981",
        ),
        Measure(
            "spatial_model_p", "Test of the spatial model (p)",
            "p-value of the test that the spatial model leaves no dependence over", "above", 0.05, 0.0001,
            meaning="Neighbours depend on each other in a way that the model does not describe.",
            remedy="Try model: durbin or error, other neighbours, or add covariates that vary over space.",
            reference="Anselin & Kelejian 1997, doi:10.1177/016001769702000109",
        ),
        Measure(
            "regime_rows", "Rows that follow a regime",
            "rows that followed a compared regime in every period (that are in an arm), in the regime with fewer",
            "above", 30, 0, meaning="Hardly anybody did what the regime asks for, so the answer rests on the model.",
            remedy="Compare regimes that people follow, such as a change in one period, or deliver more rows.",
            reference="Robins & Hernan 2009, doi:10.1201/9781420011579.ch23",
        ),
        Measure(
            "history_interaction_p", "Test of interaction of the last treatment with what came before (p)",
            "p-value of the products of the last treatment with covariates and earlier treatments", "above", 0.05,
            meaning="The treatment acts differently after different histories, which main effects leave out.",
            remedy="Use form saturated, or add product columns to the covariates.",
            reference="Bang & Robins 2005, doi:10.1111/j.1541-0420.2005.00377.x",
        ),
        Measure(
            "bootstrap_bias", "Bias of the draws",
            "distance of the mean of the draws from the estimate, in standard errors", "below", 0.25,
            meaning="The estimator is biased in samples of this size, or ruled by few rows.",
            remedy="Read the BCa or studentised interval.", reference="Efron & Tibshirani 1993",
        ),
        Measure(
            "draws_skewness", "Skewness of the draws", "size of the third standardised moment of the draws", "below",
            0.5, 2, meaning="The draws are far from normal: a few rows decide the estimate.",
            remedy="Read the studentised interval, look at the largest outcomes, or take logarithms or a robust mean.",
            reference="Davison & Hinkley 1997, doi:10.1017/CBO9780511802843",
        ),
        Measure(
            "largest_influence", "Largest influence", "share of the squared influences on the estimate that one row, "
            "cluster or jackknife group has", "below", 0.2, 0.5,
            meaning="The estimate hangs on one unit, so its distribution cannot be learned from this sample.",
            remedy="Look at the largest outcomes, take logarithms or a robust mean, and compare without that unit.",
            reference="Athreya 1987, doi:10.1214/aos/1176350371",
        ),
        Measure(
            "failed_draws", "Failed draws", "share of resampled data sets that could not be estimated", "below", 0.01,
            0.1, meaning="Some resampled data lack what the estimator needs, and leaving them out bends the draws.",
            remedy="Use the Bayesian scheme, which leaves nobody out, merge small groups, or deliver more rows.",
            reference="Davison & Hinkley 1997, doi:10.1017/CBO9780511802843",
        ),
        Measure(
            "effect_calibration", "Calibration of predicted effects",
            "slope of the doubly robust score on the predicted unit effects; 1 is calibrated, 0 is noise",
            reference="Chernozhukov et al. 2025, doi:10.3982/ECTA19303",
        ),
        Measure(
            "relative_pre_fit", "Fit before treatment",
            "RMSPE of the treated unit before treatment over the median RMSPE of the placebo units", "below", 2, 5,
            meaning="No average of donors resembles the treated unit before treatment, so the gap is no effect.",
            remedy="Add similar donors, use synthetic_did, or a shorter period before treatment.",
            reference="Abadie, Diamond & Hainmueller 2010, doi:10.1198/jasa.2009.ap08746",
        ),
        Measure(
            "movable_weight", "Weights that are not unique",
            "Largest share of the donor weights that another solution with the same fit before treatment gives to "
            "other donors", "below", 0.01,
            meaning="Other weights of the donors fit as well before treatment and give another effect.",
            remedy="Deliver more periods before treatment, choose fewer donors that resemble the unit, or use "
            "synthetic_did.",
            reference="Abadie 2021, doi:10.1257/jel.20191450",
        ),
    )
}  # fmt: skip


def judge(
    name: str,
    value: float | None,
    *,
    thresholds: Mapping[str, float] | None = None,
    severities: Mapping[str, str] | None = None,
    detail: str = "",
) -> Diagnostic:
    """Judge a value against its measure.

    Parameters
    ----------
    name : str
        A key of `MEASURES`.
    value : float or None
        The value; None or a non-finite number means that it could not be computed.
    thresholds, severities : mapping, optional
        Limits and severities that replace the measure's own, from profile or declaration.
        `<name>_fail` replaces the fail limit.
    detail : str
        What a reader should know beyond the number, such as the covariate that is worst.

    Returns
    -------
    Diagnostic
        With status `not_run` when there is no value.

    Raises
    ------
    CatalogError
        If the measure is not known.
    """
    if name not in MEASURES:
        raise CatalogError(f"measure '{name}' is not known; known are {', '.join(MEASURES)}")
    measure, limits = MEASURES[name], thresholds or {}
    severity = (severities or {}).get(name, measure.severity)
    threshold, fail_limit = _limits(measure, limits)
    if value is None or math.isnan(value):
        return Diagnostic(
            name, None, threshold, Status.NOT_RUN, detail or "could not be computed", severity, measure.reference,
            fail_limit,
        )  # fmt: skip
    status = Status.PASS
    if measure.direction != "reported":
        if threshold is not None and not _beyond(measure, value, threshold):
            status = Status.FAIL if severity == "block" else Status.WARN
        if fail_limit is not None and not _beyond(measure, value, fail_limit):
            status = Status.FAIL
    sentence = detail or measure.definition
    if status in (Status.WARN, Status.FAIL):
        sentence = f"{measure.meaning} {sentence[0].upper()}{sentence[1:].rstrip('.')}. {measure.remedy}"
    finite = float(value) if math.isfinite(value) else math.copysign(1e308, value)
    return Diagnostic(name, finite, threshold, status, sentence, severity, measure.reference, fail_limit)


def _beyond(measure: Measure, value: float, limit: float) -> bool:
    return value < limit if measure.direction == "below" else value > limit


def _limits(measure: Measure, limits: Mapping[str, float]) -> tuple[float | None, float | None]:
    """Return limit and fail limit; a stated limit that is looser than the default fail limit replaces it."""
    limit = float(limits.get(measure.name, measure.limit))
    fail_limit = limits.get(f"{measure.name}_fail", measure.fail_limit)
    threshold = None if math.isnan(limit) else limit
    if f"{measure.name}_fail" not in limits and None not in (threshold, fail_limit):
        loose = threshold >= fail_limit if measure.direction == "below" else threshold <= fail_limit  # type: ignore[operator]
        fail_limit = None if loose else fail_limit
    return threshold, None if fail_limit is None or math.isnan(fail_limit) else float(fail_limit)


def limits_for(design: str | None, thresholds: Mapping[str, float]) -> Mapping[str, float]:
    """Return the limits that apply to a design: in a declared trial raw imbalance informs and is not judged."""
    if design != "trial":
        return thresholds
    return {name: limit for name, limit in thresholds.items() if name not in ("raw_smd", "raw_smd_fail")}


def unknown_limits(thresholds: Mapping[str, float], severities: Mapping[str, str]) -> list[str]:
    """Return the stated names that are no measure, each with the nearest known one, as sentences."""
    known = [*MEASURES, *(f"{name}_fail" for name in MEASURES)]
    sentences = []
    for name in [*thresholds, *severities]:
        if name not in known or (name in severities and name not in MEASURES):
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(MEASURES)}"
            sentences.append(f"the limit of '{name}' is ignored, because no measure has this name; {hint}")
    return sentences
