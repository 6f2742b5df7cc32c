"""Serve the UI and the reports of a cluster; the code is asked from the code server."""

import os

from dagster_deploy.production.entrypoint import WORKSPACE
from dagster_deploy.serve import serve_web


def main() -> None:
    """Serve until the process is told to stop."""
    serve_web("0.0.0.0", int(os.environ["CQOX_PORT"]), WORKSPACE)


if __name__ == "__main__":
    main()
