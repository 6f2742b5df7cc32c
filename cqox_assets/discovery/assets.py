"""The method plan as an asset."""

import dagster as dg
import pandas as pd

from cqox_assets.assets import bullets, markdown_table, stage
from cqox_assets.study import Study


@dg.asset(
    key=["discovery", "method_plan"],
    ins={"gated_study": dg.AssetIn(["gates", "gated_study"])},
    description="Every estimator of the catalogue, ranked for this study with reasons; it ranks, it removes nothing.",
    code_version="1",
    **stage("discovery"),
)
def method_plan(gated_study: Study) -> dg.MaterializeResult:
    """Rank the estimators."""
    from cqox_assets.discovery.plan import plan_methods

    plan = plan_methods(gated_study)
    ranked = pd.DataFrame(plan.ranked, columns=["estimator", "reason"])
    refused = pd.DataFrame(list(plan.refused.items()), columns=["estimator", "remedy"])
    return dg.MaterializeResult(
        value=plan,
        metadata={
            "fingerprint": gated_study.fingerprint,
            "ranked": dg.MetadataValue.md(markdown_table(ranked, 40)),
            "refused": dg.MetadataValue.md(markdown_table(refused, 40) if len(refused) else "none"),
            "applicable": len(ranked),
            "notices": dg.MetadataValue.md(bullets(plan.notices) or "none"),
        },
    )


ASSETS = [method_plan]
