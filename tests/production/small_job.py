"""A small job whose log is observed as that of the real ones: two ops in a row, one of which may fail."""

import os

import dagster as dg

from dagster_deploy.observability.attach import attach

attach()


@dg.op
def first(context: dg.OpExecutionContext) -> int:
    context.log.info("a word from an op")
    return 1


@dg.op
def second(number: int) -> int:
    if os.environ.get("SMALL_FAILS"):
        raise ValueError("as asked")
    return number + 1


@dg.job
def small() -> None:
    second(first())


@dg.job(executor_def=dg.in_process_executor)
def in_one_process() -> None:
    second(first())


defs = dg.Definitions(jobs=[small, in_one_process])
