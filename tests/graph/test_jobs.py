"""Jobs: the same assets in one process or one pod per op, and roll-ups apart from both."""

import dagster as dg
import pytest

from cqox_assets.catalog import study_figures
from dagster_deploy.definitions import defs


def keys(job: str) -> set[str]:
    return {key.to_user_string() for key in defs.resolve_job_def(job).asset_layer.executable_asset_keys}


def test_both_analyses_hold_the_same_assets_and_no_ledger():
    assert keys("analyse_partition") == keys("analyse_with_kubernetes")
    assert not {key for key in keys("analyse_partition") if key.startswith("ledger/")}
    ledger = ("effect_history", "domain_network", "domain_network_graph", "bi_tables")
    assert keys("roll_up") == {f"ledger/{name}" for name in ledger}


def test_what_turns_or_moves_is_a_selection_of_its_own():
    moving = keys("draw_moving_figures")
    assert "decisions/report_site" in keys("analyse_partition")
    assert "moving_figures/report_site" in moving
    assert {key.partition("/")[0] for key in moving} == {"moving_figures"}
    assert not [key for key in keys("analyse_partition") if key.startswith("moving_figures/")]
    layer = defs.resolve_job_def("analyse_partition").asset_layer
    above = {parent.to_user_string() for key in layer.executable_asset_keys for parent in layer.get(key).parent_keys}
    assert above <= keys("analyse_partition"), "the UI would ask whether a run may fail for want of these"
    assert {f"moving_figures/{name}" for name, spec in study_figures().items() if spec.moving} <= moving


def test_backfills_start_from_the_stored_study():
    assert "gates/gated_study" not in keys("backfill_effects")
    assert "decisions/decision_card" in keys("backfill_effects")


def test_in_process_is_the_default_everywhere_else():
    assert defs.resolve_job_def("analyse_partition").executor_def.name == "in_process"
    assert defs.resolve_implicit_global_asset_job_def().executor_def.name == "in_process"


def test_kubernetes_job_runs_each_op_in_a_pod_of_its_own():
    from dagster._core.definitions.job_base import InMemoryJob
    from dagster._core.executor.init import InitExecutorContext
    from dagster._core.executor.step_delegating import StepDelegatingExecutor

    job = defs.resolve_job_def("analyse_with_kubernetes")
    with dg.DagsterInstance.ephemeral() as instance:
        context = InitExecutorContext(
            job=InMemoryJob(job), executor_def=job.executor_def, instance=instance,
            executor_config={"job_image": "cqox:test", "load_incluster_config": False, "max_concurrent": 3,
                             "kubeconfig_file": None},
        )  # fmt: skip
        from dagster_k8s.executor import K8sStepHandler

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("kubernetes.config.load_kube_config", lambda *_, **__: None)
            executor = job.executor_def.executor_creation_fn(context)
        assert isinstance(executor, StepDelegatingExecutor)
        assert isinstance(executor._step_handler, K8sStepHandler)


@pytest.mark.parametrize("name", ["estimates/ols", "nuisance/nuisance_models"])
def test_every_op_asks_for_the_pod_size_of_its_cost(name):
    node = next(asset for asset in defs.assets if name in {key.to_user_string() for key in asset.keys})
    size = node.op.tags["dagster-k8s/config"]
    assert "memory" in str(size)


def test_roll_up_follows_an_analysis_that_ended_well_and_nothing_else():
    from cqox_assets.automation import roll_up_after_success

    def ask(job: str, tags: dict[str, str]):
        with dg.DagsterInstance.ephemeral() as instance:
            run = dg.DagsterRun(job_name=job, run_id="0f5a1f0e-2a1c-4d06-9f0e-1d1d1d1d1d1d", tags=tags)
            event = dg.DagsterEvent(event_type_value="PIPELINE_SUCCESS", job_name=job)
            context = dg.build_run_status_sensor_context(
                sensor_name="roll_up_after_success", dagster_instance=instance, dagster_run=run, dagster_event=event
            )
            return roll_up_after_success(context)

    answer = ask("analyse_partition", {"dagster/partition": "healthcare|2025-03"})
    assert answer.partition_key == "healthcare"
    assert isinstance(ask("roll_up", {"dagster/partition": "healthcare"}), dg.SkipReason)
    assert isinstance(ask("something_else", {"dagster/partition": "healthcare|2025-03"}), dg.SkipReason)
