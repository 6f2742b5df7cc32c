"""Small jobs for the emulated cluster; a test follows and steers them by files in CQOX_HOME."""

import os
import time
from pathlib import Path

import dagster as dg

from cqox_assets.assets import K8S_RESOURCES
from cqox_assets.automation import STEP_RETRIES, kubernetes_executor


def place(name: str) -> Path:
    """Return the path of a mark of this run's job."""
    return Path(os.environ["CQOX_HOME"]) / name


def mark(name: str) -> None:
    """Leave a line that says that something happened."""
    with place(name).open("a", encoding="utf-8") as file:
        file.write("once\n")


def hold(name: str) -> None:
    """Wait until the test lets go of what has this name."""
    mark(f"{name}.reached")
    limit = time.monotonic() + 240
    while not place(f"{name}.go").exists():
        if time.monotonic() > limit:
            raise TimeoutError(f"nobody let {name} go")
        time.sleep(0.05)
    mark(f"{name}.done")


@dg.op(tags=K8S_RESOURCES["light"])
def first() -> None:
    mark(f"{os.environ['DAGSTER_RUN_JOB_NAME']}.first")


@dg.op(tags=K8S_RESOURCES["heavy"], ins={"start": dg.In(dg.Nothing)})
def second() -> None:
    hold(os.environ["DAGSTER_RUN_JOB_NAME"])


@dg.op
def third() -> None:
    hold(os.environ["DAGSTER_RUN_JOB_NAME"])


@dg.op
def fail() -> None:
    raise ValueError("this op is meant to fail")


@dg.op
def swell() -> None:
    """Take more memory than the pod may have, and keep it."""
    mark("swollen.reached")
    taken = []
    for _ in range(64):
        taken.append(bytearray(os.urandom(1 << 20) * 32))
        time.sleep(0.1)
    hold("never")


@dg.job
def good() -> None:
    first()


@dg.job
def broken() -> None:
    fail()


@dg.job
def held() -> None:
    third()


@dg.job
def stopped() -> None:
    third()


@dg.job(
    tags={"dagster-k8s/config": {"container_config": {"resources": {"limits": {"cpu": "1", "memory": "450Mi"}}}}},
)
def swollen() -> None:
    swell()


@dg.job(executor_def=kubernetes_executor, op_retry_policy=STEP_RETRIES)
def stepped() -> None:
    second(first())


@dg.job(executor_def=kubernetes_executor, op_retry_policy=STEP_RETRIES)
def lost() -> None:
    third()


defs = dg.Definitions(jobs=[good, broken, held, stopped, swollen, stepped, lost], executor=dg.in_process_executor)
