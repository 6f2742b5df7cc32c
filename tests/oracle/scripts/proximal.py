"""Write references/proximal.json with linearmodels, in an environment of its own."""

import json
from pathlib import Path
from statistics import NormalDist

import linearmodels
import pandas as pd
from linearmodels.iv import IV2SLS

HERE = Path(__file__).resolve().parent.parent
SETS = {
    "one": (["x0", "x1"], ["w0"], ["z0"]),
    "surplus": (["x0", "x1"], ["w0"], ["z0", "z1"]),
    "two": (["x0", "x1"], ["w0", "w1"], ["z0", "z1"]),
    "two_of_three": (["x0"], ["w0", "w1"], ["z0", "z1", "z2"]),
}


def main() -> None:
    data = pd.read_csv(HERE / "data" / "proxy_sim.csv").assign(const=1.0)
    clusters = {"cov_type": "clustered", "clusters": data["cluster"]}
    kinds = {
        "classical_n": {"cov_type": "unadjusted"},
        "classical": {"cov_type": "unadjusted", "debiased": True},
        "HC0": {"cov_type": "robust"},
        "HC1": {"cov_type": "robust", "debiased": True},
        "CR0": clusters,
        "CR1": clusters | {"debiased": True},
    }
    entries = []
    for name, (x, w, z) in SETS.items():
        model = IV2SLS(data["y"], data[["const", "d", *x]], data[w], data[z])
        for se, options in kinds.items():
            fit = model.fit(**options)
            value, error = float(fit.params["d"]), float(fit.std_errors["d"])
            half = NormalDist().inv_cdf(0.975) * error
            roles = {"outcome": "y", "treatment": "d", "covariates": x, "outcome_proxies": w, "treatment_proxies": z}
            roles |= {"cluster": "cluster"} if se.startswith("CR") else {}
            entries.append(
                {
                    "id": f"proxy_sim_{name}_{se}", "dataset": "proxy_sim", "estimator": "proximal",
                    "estimand": "ATE, proximal two-stage least squares", "outcome": "y", "treatment": "d",
                    "covariates": x, "options": {"outcome_proxies": w, "treatment_proxies": z, "vcov": se},
                    "value": value, "se": error, "ci": [value - half, value + half],
                    "tolerance": {"value_rtol": 1e-6, "se_rtol": 1e-6}, "kind": "exact",
                    "source": f"linearmodels {linearmodels.__version__} IV2SLS",
                    "spec": {
                        "method": "proximal", "report": "estimate", "target": "sample", "file": "proxy_sim.csv",
                        "roles": roles, "params": {}, "se": se, "ci": "normal", "estimand": "ATE",
                        "form": "two_stage_least_squares", "compare": "tolerance", "rows": len(data),
                    },
                }
            )  # fmt: skip
    text = ",\n".join(map(json.dumps, entries))
    (HERE / "references" / "proximal.json").write_text(f"[\n{text}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
