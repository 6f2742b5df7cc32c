"""What runs inside a measured process: one job of one partition, or one small probe; prints its figures as JSON.

``python -m dagster_deploy.production.capacity.worker JOB PARTITION`` runs a job on the instance and the warehouse that
the environment names; ``... domains`` loads the definitions; ``... inbox`` ticks the scan of the inbox sensor.
"""

import json
import resource
import sys
import time
from collections import Counter, defaultdict
from typing import Any


class Requests:
    """Counts what is asked of an object store, by operation, with the bytes that go either way."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()
        self.sent = 0
        self.received = 0

    def watch(self) -> "Requests":
        """Count the requests of every S3 client that this process makes from now on, retries included."""
        from aiobotocore.session import AioSession

        start = AioSession.__init__

        def _watched(session: Any, *arguments: Any, **options: Any) -> None:
            start(session, *arguments, **options)
            session.register("before-send.s3", self._before)
            session.register("response-received.s3", self._after)

        AioSession.__init__ = _watched
        return self

    def _before(self, request: Any, event_name: str, **_: Any) -> None:
        self.count[event_name.rpartition(".")[2]] += 1
        self.sent += int(request.headers.get("Content-Length") or 0)

    def _after(self, response_dict: Any, **_: Any) -> None:
        self.received += int((response_dict or {}).get("headers", {}).get("content-length") or 0)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"requests": dict(sorted(self.count.items())), "bytes_sent": self.sent, "bytes_received": self.received}


def used() -> dict[str, float]:
    """Return CPU seconds of this process and those that it started (the notebook's kernel), and its own peak memory.

    The peak of a child counts what it shared with its parent before it became a program, so it says little.
    """
    own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = sum(usage.ru_utime + usage.ru_stime for usage in (own, others))
    return {"cpu_s": cpu, "peak_mb": own.ru_maxrss / 1024}


def run_job(job: str, key: str) -> dict[str, Any]:
    """Run one job as a run worker does, and return what it took."""
    from dagster import DagsterInstance

    from dagster_deploy.measure import run_events

    requests, begun = Requests().watch(), time.perf_counter()
    stages: defaultdict[str, float] = defaultdict(float)
    steps, failed, before = 0, [], used()["cpu_s"]
    import dagster_deploy.definitions  # noqa: F401

    with DagsterInstance.get() as instance:
        stages["definitions"], before = used()["cpu_s"] - before, used()["cpu_s"]
        for event in run_events(job, key, instance):
            if event.is_step_success or event.is_step_failure:
                steps += 1
                stage = "figures" if event.step_key.startswith("figures_") else event.step_key.partition("__")[0]
                stages[stage] += used()["cpu_s"] - before
                before = used()["cpu_s"]
            if event.is_step_failure:
                failed.append(event.step_key)
    found = {"steps": steps, "failed": failed, "wall_s": time.perf_counter() - begun, "objects": requests.to_json()}
    return {**found, **used(), "stages": dict(stages)}


def load_definitions() -> dict[str, Any]:
    """Load the definitions with the domains of this home, as every run pod and code server does."""
    from dagster_deploy.definitions import defs

    repository = defs.get_repository_def()
    return {**used(), "schedules": len(repository.schedule_defs)}


def tick_inbox() -> dict[str, Any]:
    """Scan the inbox as the sensor does: the first tick, which hashes, then one where nothing changed."""
    from cqox_assets.ingestion.watch import scan
    from cqox_assets.partitions import DOMAINS, PERIODS
    from cqox_resources.settings import Settings

    settings, periods = Settings.from_env(), PERIODS.get_partition_keys()
    settings.initialise()
    seconds, cursor = [], None
    for _ in range(3):
        begun = time.process_time()
        cursor = scan(settings, cursor, DOMAINS, periods).cursor
        seconds.append(time.process_time() - begun)
    asked = len(scan(settings, cursor, DOMAINS, periods).requests)
    return {"first_s": seconds[0], "steady_s": seconds[-1], "requests": asked, "cursor_bytes": len(cursor or "")}


def main() -> None:
    """Do what the command line says."""
    probes = {"domains": load_definitions, "inbox": tick_inbox}
    found = run_job(*sys.argv[1:3]) if sys.argv[1] not in probes else probes[sys.argv[1]]()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
