"""Alert records: one JSON file each, and a webhook if one is set."""

import json
import logging
import urllib.error
import urllib.request
import uuid
from datetime import UTC, datetime
from pathlib import Path

from cqox_resources.settings import Settings

KINDS = ("gate", "input", "crash", "bug")
_LOG = logging.getLogger(__name__)


def write_alert(settings: Settings, kind: str, partition: str, run_id: str, message: str) -> Path:
    """Write an alert record and post it to the webhook, if one is set.

    Parameters
    ----------
    kind : str
        `gate` (the study cannot be analysed), `input` (a file or declaration is wrong), `crash` (a run died),
        `bug` (an estimator raised; the run went on).

    Returns
    -------
    Path
        The record; it says whether the webhook took it.
    """
    now = datetime.now(UTC)
    record = {
        "kind": kind,
        "partition": partition,
        "run_id": run_id,
        "message": message,
        "created": now.isoformat(timespec="seconds"),
        "webhook": _post(settings.alert_webhook, kind, partition, run_id, message),
    }
    settings.alerts.mkdir(parents=True, exist_ok=True)
    path = settings.alerts / f"{now:%Y%m%dT%H%M%S}-{kind}-{uuid.uuid4().hex[:8]}.json"
    path.write_text(json.dumps(record, ensure_ascii=False, indent=1), "utf-8")
    return path


def _post(url: str | None, kind: str, partition: str, run_id: str, message: str) -> str:
    if not url:
        return "not set"
    text = f"CQOx {kind} in {partition}: {message}"
    body = json.dumps({"text": text, "kind": kind, "partition": partition, "run_id": run_id}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return f"sent ({answer.status})"
    except (urllib.error.URLError, OSError, ValueError) as error:
        _LOG.warning("the alert webhook did not take the alert: %s", error)
        return f"not sent: {error}"
