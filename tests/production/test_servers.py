"""The servers that other tests build on work."""

import json
import os
import subprocess
import sys

from tests.production.servers import Postgres

_ROUND_TRIP = """
import json, sys
from upath import UPath
from cqox_resources.store import Parts, facts, save
import pandas as pd
folder = UPath("s3://cqox/round/trip")
save(folder, Parts("probe", {"a": 1}, {"t": pd.DataFrame({"x": [1.5, 2.5]})}, {"n": 2}))
print(json.dumps(facts(folder)))
"""


def test_postgres_survives_a_crash(postgres: Postgres) -> None:
    postgres.sql("create table kept (x int); insert into kept values (1)")
    postgres.stop("immediate")
    postgres.start()
    assert postgres.sql("select x from kept") == [(1,)]


def test_results_are_stored_in_an_object_store(object_store: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _ROUND_TRIP],
        env={**os.environ, **object_store},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {"n": 2}
