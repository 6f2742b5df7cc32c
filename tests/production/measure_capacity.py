"""Measure on servers of this machine: ``python -m tests.production.measure_capacity --json docs/capacity.json``.

Postgres and the emulated object store are started on loopback and share the machine with the runs, so wall time is
inflated; CPU seconds, memory, rows, bytes and requests are not.
"""

import sys

from dagster_deploy.production.capacity.__main__ import main
from tests.production.servers import object_store, postgres

if __name__ == "__main__":
    settings = {"shared_preload_libraries": "pg_stat_statements"}
    with postgres(settings) as server, object_store() as environment:
        arguments = ["measure", "--postgres", server.url, "--warehouse", "s3://cqox/capacity", *sys.argv[1:]]
        sys.exit(main(arguments, environment))
