"""The three figures: what is drawn is what was found, and hard inputs still make a picture."""

import io
import math
import threading
import warnings
import xml.etree.ElementTree as ET

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from cqox_assets.declaration import Declaration
from cqox_assets.figures import _files as files
from cqox_assets.figures import _theme as theme
from cqox_assets.figures import _visuals as visuals
from cqox_assets.figures import ate_distribution, covariate_balance, propensity_overlap
from cqox_assets.result import Effect, EffectEstimate, Interval, Nuisance, Refusal, Sample
from cqox_assets.spec import Inputs
from cqox_assets.study import Role, Study

ARMS = ("対照", "クーポン配布", "メール配信")


def study_of(arms=("no", "yes"), covariates=3, rows=240, name="y"):
    place = np.arange(rows)
    columns = {f"x{k}": np.cos(place * (k + 1)) for k in range(covariates)}
    frame = pd.DataFrame({name: place * 1.0, "d": (place % len(arms)) * 1.0, **columns})
    roles = {Role.OUTCOME: (name,), Role.TREATMENT: ("d",), Role.COVARIATES: tuple(columns)}
    return Study(frame, roles, arms=arms, declaration=Declaration(unit_of_outcome="円"))


def answer(name, *effects, **tables):
    return EffectEstimate(name, "1", effects, "stated", Sample(10), tables=tables)


def effect(estimate, low, high, arm="yes", estimand="ATE", **facts):
    return Effect(estimand, f"{arm} - no", estimate, None, Interval(low, high), at={"arm": arm}, **facts)


def balance_of(count, arm=None):
    table = pd.DataFrame(
        {"covariate": [f"covariate {k}" for k in range(count)], "before": np.linspace(0.9, 0.01, count)}
    ).assign(after=lambda frame: frame["before"] / 10)
    return table if arm is None else table.assign(arm=arm)


def nuisance_of(study):
    frames = {}
    for arm, part in study.contrasts():
        treated = part.column(Role.TREATMENT)
        wave = np.abs(np.sin(np.arange(len(part)))) * 0.5
        frames[arm] = pd.DataFrame({"propensity": 0.2 + 0.25 * treated + wave * 0.5})
    return Nuisance(frames, "linear", 0, 5, study.fingerprint)


def png_size(content):
    from PIL import Image

    return Image.open(io.BytesIO(content)).size


def axis_of(drawing):
    return drawing.figure.axes[0]


def test_every_estimate_is_a_row_and_refusals_are_not():
    study = study_of()
    answers = {
        "b": answer("b", effect(2.0, 1.0, 3.0)),
        "a": answer("a", effect(1.0, -1.0, 3.0), effect(9.0, 8.0, 10.0, estimand="ATT")),
        "curve": answer("curve", effect(1.5, 1.0, 2.0), Effect("ATE", "yes - no", 5.0, at={"time": 3})),
        "r": Refusal("r", "x", "y", "z"),
    }
    drawing = ate_distribution.draw(Inputs(study, answers, plan=("b", "a")))
    assert drawing.data["estimator"].tolist() == ["b", "a", "a", "curve"]
    assert drawing.data["estimate"].tolist() == [2.0, 1.0, 9.0, 1.5]
    assert "ATE of yes - no: 3 estimates from 1円 to 2円, 2 with an interval off the null" in drawing.caption
    labels = [label.get_text() for label in axis_of(drawing).get_yticklabels()]
    assert set(labels) == {"b", "a", "curve"}


def test_scales_have_axes_of_their_own():
    answers = {"a": answer("a", effect(1.0, 0.0, 2.0)), "b": answer("b", effect(0.1, 0.0, 0.2, scale="log_risk_ratio"))}
    drawing = ate_distribution.draw(Inputs(study_of(), answers))
    assert [axis.get_xlabel() for axis in drawing.figure.axes] == ["effect on y (円)", "log risk ratio of y"]


def test_infinite_ends_and_outliers_leave_the_rest_readable():
    answers = {f"e{k}": answer(f"e{k}", effect(1.0 + k / 10, 0.5, 2.0)) for k in range(5)}
    answers["open"] = answer("open", effect(1.0, -math.inf, math.inf))
    answers["far"] = answer("far", effect(1e7, 9e6, math.inf))
    answers["point"] = answer("point", Effect("ATE", "yes - no", 1.2))
    drawing = ate_distribution.draw(Inputs(study_of(), answers))
    low, high = axis_of(drawing).get_xlim()
    assert low < 0 < 2 < high < 100
    assert "2 of the intervals are unbounded" in drawing.caption
    assert any("1e+07" in text.get_text() for text in axis_of(drawing).texts)


@pytest.mark.parametrize("points", [[1.0], [0.0, 0.0], [1e-12, 2e-12], [5e9, 5.1e9, -4e9], [1.0, 1.0, 1.0, 1e300]])
def test_the_window_holds_the_null_and_has_a_width(points):
    low, high = visuals.window(points, [math.inf, -math.inf, *points], [0.0])
    assert low < 0 < high
    assert math.isfinite(high - low)


def test_the_balance_names_the_worst_covariate_and_keeps_forty():
    study = study_of(covariates=60)
    drawing = covariate_balance.draw(Inputs(study, {"ipw": answer("ipw", effect(1, 0, 2), balance=balance_of(60))}))
    assert len(drawing.data) == 40
    assert "covariate 0, 0.09" in drawing.caption
    assert "40 worst of 60" in drawing.caption
    assert drawing.data["before"].is_monotonic_decreasing


def test_the_balance_prefers_an_estimate_that_adjusts():
    plain = balance_of(3).assign(after=lambda frame: frame["before"])
    answers = {
        "means": answer("means", effect(1, 0, 2), balance=plain),
        "ipw": answer("ipw", effect(1, 0, 2), balance=balance_of(3)),
    }
    drawing = covariate_balance.draw(Inputs(study_of(), answers, plan=("means", "ipw")))
    assert "after ipw" in drawing.caption


def test_each_arm_has_a_panel_in_its_colour():
    study = study_of(ARMS)
    table = pd.concat([balance_of(4, arm) for arm in ARMS[1:]], ignore_index=True)
    drawing = covariate_balance.draw(Inputs(study, {"ipw": answer("ipw", effect(1, 0, 2), balance=table)}))
    assert len(drawing.figure.axes) == 2
    colours = [theme.arm_colour(study.arms, arm) for arm in ARMS]
    assert len(set(colours)) == 3
    assert colours[0] == theme.REFERENCE


def test_an_infinite_difference_is_drawn_at_the_edge():
    table = balance_of(3)
    table.loc[0, ["before", "after"]] = math.inf
    drawing = covariate_balance.draw(Inputs(study_of(), {"ipw": answer("ipw", effect(1, 0, 2), balance=table)}))
    assert math.isfinite(axis_of(drawing).get_xlim()[1])
    assert "infinite" in drawing.caption


def test_overlap_shares_sum_to_one_per_arm_and_panel():
    study = study_of(ARMS)
    drawing = propensity_overlap.draw(Inputs(study, nuisance=nuisance_of(study)))
    sums = drawing.data.groupby("arm")[["compared", "reference"]].sum()
    np.testing.assert_allclose(sums.to_numpy(), 1.0)
    assert len(drawing.figure.axes) == 2
    assert "クーポン配布 against 対照" in drawing.caption


def test_no_common_support_is_said():
    propensity, treated = np.array([0.1] * 50 + [0.9] * 50), np.array([0] * 50 + [1] * 50)
    low, high = propensity_overlap.common_support(propensity, treated)
    assert low > high


@pytest.mark.parametrize(
    ("spec", "inputs"),
    [
        (ate_distribution.SPEC, Inputs(study_of(), {"r": Refusal("r", "x", "y", "z")})),
        (covariate_balance.SPEC, Inputs(study_of(), {"a": answer("a", effect(1, 0, 2))})),
        (
            covariate_balance.SPEC,
            Inputs(study_of(covariates=0), {"a": answer("a", effect(1, 0, 2), balance=balance_of(0))}),
        ),
        (propensity_overlap.SPEC, Inputs(study_of())),
    ],
)
def test_unmet_needs_say_what_is_missing(spec, inputs):
    assert "needs" in spec.unmet(inputs)


def drawings():
    study = study_of(ARMS, name="売上金額（円） $x$ <b>")
    table = pd.concat([balance_of(4, arm) for arm in ARMS[1:]], ignore_index=True)
    table["covariate"] = "とても長い名前の列：過去十二か月間の累計購買回数（返品を除く） $a_b$ " + table.index.astype(
        str
    )
    answers = {"ipw": answer("ipw", *(effect(1.0, 0.5, 2.0, arm) for arm in ARMS[1:]), balance=table)}
    inputs = Inputs(study, answers, nuisance_of(study))
    return [module.draw(inputs) for module in (ate_distribution, covariate_balance, propensity_overlap)]


def test_files_are_complete_and_repeatable_without_a_warning(tmp_path):
    before = dict(mpl.rcParams)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for place, drawing in enumerate(drawings()):
            found = files.save(drawing, tmp_path, f"figure{place}")
            width, height = png_size((tmp_path / f"figure{place}.png").read_bytes())
            assert width == round(7.2 * 300)
            assert height > 500
            assert ET.parse(found["svg"]).getroot().tag.endswith("svg")
            assert found["rows"] == len(found["data"]) > 0
            found["data"].to_parquet(tmp_path / "drawn.parquet")
            assert drawing.alt.endswith(found["caption"])
    assert dict(mpl.rcParams) == before
    again = [files.render(drawing, "svg") for drawing in drawings()]
    assert again == [(tmp_path / f"figure{place}.svg").read_bytes() for place in range(3)]
    assert sorted(path.suffix for path in tmp_path.iterdir()).count(".part") == 0


def test_threads_draw_the_same_pictures():
    expected = [files.render(drawing, "svg") for drawing in drawings()]
    found = {}

    def work(number):
        found[number] = [files.render(drawing, "svg") for drawing in drawings()]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found[number] == expected for number in range(3))


def test_long_names_are_cut_by_width_not_by_letters():
    assert theme.shorten("short") == "short"
    assert len(theme.shorten("a" * 90, 30)) == 30
    assert len(theme.shorten("あ" * 90, 30)) <= 16
    assert theme.shorten("two\nlines") == "two lines"
