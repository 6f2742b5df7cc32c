"""Settings of logs, traces and metrics: read when they are asked for, wrong ones named at start."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")


class SettingError(ValueError):
    """A setting has a value that it cannot have; the message names it, what was found and what is expected."""


@dataclass(frozen=True)
class Observing:
    """What is told and where it goes.

    Parameters
    ----------
    log_format : str
        `CQOX_LOG_FORMAT`: `text`, or `json` for one JSON object per line.
    log_level : str
        `CQOX_LOG_LEVEL`: `debug`, `info`, `warning` or `error`.
    endpoint : str or None
        `OTEL_EXPORTER_OTLP_ENDPOINT` (or `..._TRACES_ENDPOINT`): spans go there over OTLP/HTTP; none are made without.
    trace_ratio : float
        `CQOX_TRACE_RATIO`: share of the runs that are traced, 0 to 1.
    read_store : bool
        `CQOX_METRICS_STORE`: whether the web server's /metrics also tells what the store of runs says (`on`, `off`).
    metrics_port : int or None
        `CQOX_METRICS_PORT`: the daemon and the exporter serve /metrics there; the daemon serves none without.
    late_seconds : float
        `CQOX_LATE_SECONDS`: a partition is late when no decision card answers a request for it within so long.
    """

    log_format: str = "text"
    log_level: str = "info"
    endpoint: str | None = None
    trace_ratio: float = 1.0
    read_store: bool = True
    metrics_port: int | None = None
    late_seconds: float = 7200.0

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None) -> "Observing":
        """Read the settings.

        Raises
        ------
        SettingError
            If one cannot be; all wrong ones are named.
        """
        env = os.environ if environment is None else environment
        wrong: list[str] = []

        def read(name: str, default: str, parse: Callable[[str], object], expected: str) -> object:
            found = env.get(name) or default
            try:
                return parse(found)
            except ValueError:
                wrong.append(f"{name}: found '{found}'; expected {expected}")
                return parse(default)

        endpoint = env.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or env.get("OTEL_EXPORTER_OTLP_ENDPOINT") or ""
        if (env.get("OTEL_SDK_DISABLED") or "").lower() == "true":
            endpoint = ""
        if endpoint and not endpoint.startswith(("http://", "https://")):
            wrong.append(
                f"OTEL_EXPORTER_OTLP_ENDPOINT: found '{endpoint}'; expected an OTLP/HTTP URL: http://collector:4318"
            )
        settings = cls(
            log_format=str(read("CQOX_LOG_FORMAT", "text", _one_of(FORMATS), "text or json")),
            log_level=str(read("CQOX_LOG_LEVEL", "info", _one_of(LEVELS), ", ".join(LEVELS))),
            endpoint=endpoint or None,
            trace_ratio=_number(read("CQOX_TRACE_RATIO", "1", _ratio, "a number from 0 to 1, such as 0.01")),
            read_store=read("CQOX_METRICS_STORE", "on", _one_of(("on", "off")), "on or off") == "on",
            metrics_port=int(_number(read("CQOX_METRICS_PORT", "0", _port, "a port, 1 to 65535"))) or None,
            late_seconds=_number(read("CQOX_LATE_SECONDS", "7200", _positive, "a number of seconds above 0")),
        )
        if wrong:
            raise SettingError("\n".join(wrong))
        return settings

    @classmethod
    def required(cls) -> "Observing":
        """Return the settings of a server that starts; end the process with code 2 if one is wrong."""
        try:
            return cls.from_env()
        except SettingError as error:
            lines = "".join(f"  {line}\n" for line in str(error).splitlines())
            print(f"CQOx cannot start; correct these settings:\n{lines}", end="", file=sys.stderr, flush=True)
            raise SystemExit(2) from None


def _one_of(allowed: tuple[str, ...]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in allowed:
            raise ValueError(text)
        return text.lower()

    return parse


def _ratio(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError(text)
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError(text)
    return value


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value < 65536:
        raise ValueError(text)
    return value


def _number(value: object) -> float:
    return float(str(value))
