"""The analysis notebook: written from a card, executed in a fresh kernel, reproducing the card's headline number."""

import html
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cqox_assets.catalog import load_estimators, load_sensitivities
from cqox_assets.decisions.document import Speaker
from cqox_assets.decisions.language import entry
from cqox_assets.decisions.replay import headline_estimator

if TYPE_CHECKING:
    from nbformat import NotebookNode

TIMEOUT_SECONDS = 600
HEADLINE = "headline"
_ROOT = Path(__file__).resolve().parents[2]

_OPEN = """\
import os

import pandas as pd
from upath import UPath

import cqox_assets as cqox
from cqox_assets.results import Results

warehouse = UPath(os.environ.get("CQOX_WAREHOUSE") or {warehouse!r})
present = Results(warehouse).present({partition!r})
study, card = present.study, present.find("decisions/decision_card")
assert present.fingerprint == {fingerprint!r}, "the warehouse holds another study by now; run its own notebook"
print(f"{{len(study)}} rows, fingerprint {{present.fingerprint}}, cqox {{cqox.__version__}}")"""
_PROFILE = """\
roles = pd.DataFrame([(str(role), ", ".join(map(study.label, names))) for role, names in study.roles.items() if names],
                     columns=["role", "columns"])
display(roles)
study.frame.describe().T.rename(index=study.label)"""
_EXPLORATION = """\
from cqox_assets.study import Role

outcomes, treatments = study.names(Role.OUTCOME), study.names(Role.TREATMENT)
arms = study.frame[treatments[0]]
if study.arms:
    arms = arms.map(dict(enumerate(study.arms)))
groups = arms if arms.nunique() <= 20 else pd.qcut(arms, 5, duplicates="drop")
study.frame.groupby(groups.rename("arm"), observed=True)[list(outcomes)].agg(["count", "mean", "std"])"""
_GRAPH = """\
pd.DataFrame({arrows!r}, columns=["from", "to"])"""
_ESTIMATES = """\
from cqox_assets.result import EffectEstimate

rows = [(name, answer.estimand, answer.headline.contrast, answer.estimate, answer.std_error, answer.p_value)
        for name, answer in present.estimates.items() if isinstance(answer, EffectEstimate)]
pd.DataFrame(rows, columns=["estimator", "estimand", "contrast", "estimate", "standard error", "p"])"""
_REPRODUCE = """\
from cqox_assets.decisions.replay import agree, re_estimate

stored = present.estimates[{name!r}]
again = re_estimate(present, {name!r}, refit_nuisance=False)
found = again.estimate if hasattr(again, "estimate") else again.reason
assert agree(stored, again, tolerance=1e-9), f"not reproduced: stored {{stored.estimate!r}}, again {{found!r}}"
print(f"Reproduced: {name} gives {{again.estimate!r}} again; the stored number is {{stored.estimate!r}}, "
      f"the difference {{abs(again.estimate - stored.estimate):.1e}} is within 1e-9.")"""
_SENSITIVITY = """\
from cqox_assets.result import SensitivityResult

answers = present.inputs().sensitivity
rows = [(key, answer.status.value, answer.value, answer.meaning, answer.advice)
        for key, answer in answers.items() if isinstance(answer, SensitivityResult)]
pd.DataFrame(rows, columns=["question", "status", "value", "meaning", "advice"])"""
_CONCLUSIONS = """\
from cqox_assets.decisions.card import card_of

decided = card_of(present, card["provenance"])
assert decided["verdict"] == card["verdict"], f"the rule says {{decided['verdict']}}, the card {{card['verdict']}}"
print(f"Reproduced: the verdict is {{decided['verdict']}} again.")
pd.DataFrame(decided["reasons"])"""


@dataclass(frozen=True)
class Executed:
    """A notebook that ran, or where it stopped.

    `error` is empty if every cell ran. `reproduced` is what the headline's cell printed, and empty where there was no
    number to reproduce or where the run stopped.
    """

    content: bytes
    reproduced: str = ""
    error: str = ""


def make_notebook(card: Mapping[str, Any], warehouse: str, language: str | None = None) -> "NotebookNode":
    """Return the notebook of a card, not yet executed.

    Parameters
    ----------
    card : mapping
        From `build_card`, with the partition in its provenance.
    warehouse : str
        Where the study and its results are stored; the variable CQOX_WAREHOUSE beats it when the notebook runs.
    language : str, optional
        Of headings and explanations; the card's by default.
    """
    import nbformat

    speak = Speaker(language or str(card.get("language") or "en"))
    partition = str(card["provenance"]["partition"])
    facts = {"warehouse": warehouse, "partition": partition, "fingerprint": card["study"]["fingerprint"]}
    said = {**card, **(card.get("translations") or {}).get(speak.language, {})}
    verdict = speak("nb_verdict", verdict=card["verdict"], recommendation=_safe(said["recommendation"]))
    parts: list[tuple[str, str]] = [
        ("markdown", f"# {speak('nb_title', partition=_safe(partition))}"),
        ("markdown", _heading(speak, "introduction", f"**{_safe(said['question'])}**", verdict)),
        ("code", _OPEN.format(**facts)),
        ("markdown", _heading(speak, "profile")),
        ("code", _PROFILE),
        *([("markdown", _heading(speak, "exploration")), ("code", _EXPLORATION)] if _has_columns(card) else []),
        ("markdown", "\n\n".join(_figures(card, speak))),
        ("markdown", _heading(speak, "graph")),
        ("code", _GRAPH.format(arrows=_arrows(card))),
        ("markdown", _heading(speak, "estimates")),
        ("code", _ESTIMATES),
        *_reproduction(card, speak),
        ("markdown", _heading(speak, "sensitivity")),
        ("code", _SENSITIVITY),
        ("markdown", _heading(speak, "conclusions")),
        ("code", _CONCLUSIONS.format()),
        ("markdown", _heading(speak, "references", *(f"- {_safe(item)}" for item in _references(card)))),
    ]
    made = nbformat.v4.new_notebook()
    new = {"markdown": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    made.cells = [new[kind](text, id=f"cell-{place}") for place, (kind, text) in enumerate(parts) if text]
    for cell in made.cells:
        if "re_estimate(" in cell.source and cell.cell_type == "code":
            cell.id = HEADLINE
    made.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python", "version": sys.version.split()[0]},
        "cqox": {
            **{key: facts[key] for key in ("partition", "fingerprint")},
            "run_id": card["provenance"].get("run_id"),
        },
    }
    return made


def execute(made: "NotebookNode", folder: str | None = None) -> Executed:
    """Run every cell in a fresh kernel and return the notebook with its outputs.

    The kernel is this very interpreter, whatever kernels are installed; it talks through sockets in a private folder,
    keeps no history and reads no configuration of the user. A cell that fails ends the run; the notebook shows it.

    Parameters
    ----------
    folder : str, optional
        Working directory of the kernel; the current one by default.
    """
    import nbformat
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    class ThisInterpreter(AsyncKernelManager):  # type: ignore[misc]
        @property
        def kernel_spec(self) -> KernelSpec:
            command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            return KernelSpec(
                argv=[*command, "--HistoryManager.enabled=False"], display_name="Python 3", language="python"
            )

    with tempfile.TemporaryDirectory(prefix="cqox-") as private:
        transport = "ipc" if os.name == "posix" else "tcp"
        manager = ThisInterpreter(connection_file=f"{private}/kernel.json", transport=transport)
        client = NotebookClient(
            made, km=manager, timeout=TIMEOUT_SECONDS, resources={"metadata": {"path": folder or "."}}
        )
        error = ""
        try:
            client.execute(env=_environment(private), cleanup_kc=True)
        except (CellExecutionError, CellTimeoutError, DeadKernelError, RuntimeError) as failed:
            error = f"{type(failed).__name__}: {str(failed).strip().splitlines()[-1]}"
        finally:
            _stop(manager)
    for cell in made.cells:
        cell.metadata.pop("execution", None)  # times of day, which would make equal runs differ
    return Executed(nbformat.writes(made).encode(), "" if error else _printed(made), error)


def _printed(made: "NotebookNode") -> str:
    """Return what the headline's cell printed."""
    outputs = [output for cell in made.cells if cell.id == HEADLINE for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream").strip()


def _stop(manager: Any) -> None:
    """End the kernel's process and nothing else."""
    from jupyter_core.utils import run_sync

    if manager.has_kernel:
        run_sync(manager.shutdown_kernel)(now=True)


def _environment(private: str) -> dict[str, str]:
    places = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
    folders = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(place for place in places if place),
        **{name: f"{private}/{name.lower()}" for name in folders},
    }


def _heading(speak: Speaker, key: str, *more: str) -> str:
    lines = [f"## {speak(f'nb_{key}')}"]
    if key in ("introduction", "exploration", "graph", "estimates", "conclusions"):
        lines.append(speak(f"nb_{key}_text"))
    joint = "\n" if key == "references" else "\n\n"
    return "\n\n".join([*lines, *([joint.join(more)] if more else [])])


def _has_columns(card: Mapping[str, Any]) -> bool:
    return bool(card["study"]["roles"].get("outcome") and card["study"]["roles"].get("treatment"))


def _figures(card: Mapping[str, Any], speak: Speaker) -> list[str]:
    """Return the figures of the card, linked from beside it."""
    lines = []
    for name, item in card["figure_details"].items():
        if item["files"].get("png"):
            title = speak.said(entry("figures", name, item["title"] or name))
            lines.append(
                f"### {_safe(title)}\n\n![{_safe(item['alt'])}]({item['files']['png']})\n\n{_safe(item['caption'])}"
            )
    return lines


def _arrows(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the arrows of the graph that the roles imply, in the labels that people use."""
    study = card["study"]
    roles = {role: [study["labels"].get(name, name) for name in names] for role, names in study["roles"].items()}

    def between(causes: str, effects: str) -> list[tuple[str, str]]:
        return [(cause, effect) for cause in roles.get(causes, ()) for effect in roles.get(effects, ())]

    pairs = [("treatment", "outcome"), ("covariates", "treatment"), ("covariates", "outcome")]
    pairs += [("instruments", "treatment"), ("running_variable", "treatment"), ("running_variable", "outcome")]
    pairs += [("treatment", "mediator"), ("mediator", "outcome"), ("treatment", "guardrails")]
    if card["study"]["design"] == "trial":
        pairs.remove(("covariates", "treatment"))
    return [arrow for pair in pairs for arrow in between(*pair)]


def _reproduction(card: Mapping[str, Any], speak: Speaker) -> list[tuple[str, str]]:
    name = headline_estimator(card)
    title = f"### {speak('nb_reproduce')}\n\n"
    if name is None:
        return [("markdown", title + speak("nb_nothing"))]
    text = title + speak("nb_reproduce_text", estimator=name)
    return [("markdown", text), ("code", _REPRODUCE.format(name=name))]


def _references(card: Mapping[str, Any]) -> list[str]:
    """Return the references of every method that answered."""
    estimators, questions = load_estimators(), load_sensitivities()
    found = [
        item
        for row in card["estimates"]
        if row["estimator"] in estimators
        for item in estimators[row["estimator"]].references
    ]
    asked = {row["name"] for row in card["sensitivity"] if row["kind"] == "sensitivity"}
    found += [questions[name].reference for name in sorted(asked) if name in questions]
    return list(dict.fromkeys(item for item in found if item))


def _safe(text: Any) -> str:
    """Return a user's words as text that markdown neither formats nor runs."""
    plain = html.escape(" ".join(str(text).split()), quote=False)
    return "".join(f"\\{mark}" if mark in "\\`*_[]$#|!" else mark for mark in plain)
