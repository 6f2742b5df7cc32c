"""Start a process that is observed: ``python -m dagster_deploy.observability exporter | daemon | code-server``.

``exporter`` serves the metrics of the store of runs, for where several web servers run and each would tell the same.
``daemon ARGUMENTS`` becomes the daemon, of which one is at work at a time, and ``code-server ARGUMENTS`` Dagster's code
server, with JSON logs and a /metrics of their process.
"""

import argparse
import runpy
import sys
import threading
from collections.abc import Sequence

from dagster_deploy.observability.settings import Observing

_MODULES = {"daemon": ("dagster_deploy.daemon", ()), "code-server": ("dagster", ("api", "grpc"))}
_EXPORTER_PORT = 9464
_CATCH_UP_SECONDS = 20.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Start what is named."""
    parser = argparse.ArgumentParser(prog="python -m dagster_deploy.observability", description=__doc__)
    parser.add_argument("role", choices=("exporter", *_MODULES))
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="arguments of Dagster's command")
    options = parser.parse_args(arguments)
    settings = Observing.required()
    if options.role == "exporter":
        if options.rest:
            parser.error("the exporter takes no arguments; CQOX_METRICS_PORT is its port")
        export(settings)
        return
    become(options.role, options.rest, settings)


def become(role: str, rest: Sequence[str], settings: Observing) -> None:
    """Run Dagster's module in this process."""
    if settings.metrics_port:
        from dagster_deploy.observability.collectors import process_registry

        _serve(settings.metrics_port, process_registry())
    if settings.log_format == "json":
        _write_json(role, settings.log_level)
    module, words = _MODULES[role]
    sys.argv = [module, *words, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def export(settings: Observing) -> None:
    """Serve the metrics of the store of runs until the process is told to stop."""
    from dagster import DagsterInstance

    from dagster_deploy.observability.collectors import add_store, process_registry

    if settings.log_format == "json":
        from dagster_deploy.observability.logs import write_json

        write_json("exporter", settings.log_level)
    with DagsterInstance.get() as instance:
        registry = process_registry()
        add_store(registry, instance, settings, budget_seconds=_CATCH_UP_SECONDS)
        port = settings.metrics_port or _EXPORTER_PORT
        _serve(port, registry)
        print(f"metrics of the store of runs: http://0.0.0.0:{port}/metrics", file=sys.stderr, flush=True)
        threading.Event().wait()


def _serve(port: int, registry: object) -> None:
    from prometheus_client import start_http_server

    try:
        start_http_server(port, registry=registry)  # type: ignore[arg-type]
    except OSError as error:
        print(f"CQOX_METRICS_PORT: found {port}, which cannot be listened on ({error.strerror}); expected a free port",
              file=sys.stderr, flush=True)  # fmt: skip
        raise SystemExit(2) from None


def _write_json(role: str, level: str) -> None:
    """Dagster sets its logs up when the process has begun; ours follow at once."""
    from dagster._daemon import controller

    from dagster_deploy.observability.logs import write_json

    configure = controller.configure_loggers  # type: ignore[attr-defined]

    def configured(*arguments: object, **options: object) -> None:
        configure(*arguments, **options)  # type: ignore[arg-type]
        write_json(role, level)

    controller.configure_loggers = configured  # type: ignore[attr-defined]
    write_json(role, level)


if __name__ == "__main__":
    main()
