"""The declaration: what the analyst states in `study.yaml` before looking at results."""

import difflib
from collections.abc import Mapping
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from cqox_assets.errors import DeclarationError

Scalar = str | int | float | bool


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Contrast(_Block):
    """Which arms are compared."""

    reference: Scalar | None = None
    compared: tuple[Scalar, ...] = ()

    @field_validator("compared", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return (value,) if isinstance(value, (str, int, float, bool)) else value


class Guardrail(_Block):
    """An outcome that must not get worse by more than `margin`, in its own units."""

    margin: float = Field(0.0, ge=0)
    direction: Literal["higher_is_better", "lower_is_better"] = "higher_is_better"


class Money(_Block):
    """What an effect is worth."""

    value_per_unit: float | None = None
    cost_per_treatment: float | None = Field(None, ge=0)
    budget: float | None = Field(None, ge=0)
    currency: str | None = None


class Override(_Block):
    """A person's verdict instead of the rule's; it needs a name and a written reason, and both are kept."""

    verdict: Literal["GO", "CANARY", "HOLD"]
    reason: str
    by: str

    @field_validator("reason", "by")
    @classmethod
    def _written(cls, value: str, info: ValidationInfo) -> str:
        if not value.strip():
            wanted = "a written reason" if info.field_name == "reason" else "the name of who decides"
            raise ValueError(f"overriding a verdict needs {wanted}; write it, or leave out the whole override")
        return value.strip()


class Declaration(_Block):
    """The content of `study.yaml`; every key is optional and beats inference and the domain profile.

    `treatment_kind: continuous` says that a treatment of few distinct numbers is an amount, such as years or tablets,
    and not a label of arms: estimators then report the slope per unit, or refuse it if they need arms.
    """

    question: str | None = None
    roles: Mapping[str, str | tuple[str, ...] | None] = Field(default_factory=dict)
    design: (
        Literal["trial", "observational", "panel", "cutoff", "instrument", "time_series", "network", "spatial"] | None
    ) = None
    direction: Literal["higher_is_better", "lower_is_better"] | None = None
    unit_of_outcome: str | None = None
    contrast: Contrast = Contrast()
    treatment_kind: Literal["continuous"] | None = None
    cutoff: float | None = None
    intervention_time: str | int | float | None = None
    treated_unit: Scalar | None = None
    minimum_effect: float | None = None
    estimand: str | None = None
    guardrails: Mapping[str, Guardrail] = Field(default_factory=dict)
    thresholds: Mapping[str, float] = Field(default_factory=dict)
    severities: Mapping[str, Literal["warn", "block"]] = Field(default_factory=dict)
    money: Money = Money()
    methods: tuple[str, ...] = ()
    params: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    missing: Literal["impute_indicator", "drop"] | None = None
    override: Override | None = None
    language: Literal["en", "ja"] | None = None
    # Whether a remedy that the review carried out may replace the headline; by default it is only shown.
    remedies: Literal["show", "adopt"] = "show"

    @field_validator("methods", mode="before")
    @classmethod
    def _one_method(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("intervention_time", mode="before")
    @classmethod
    def _text_of_date(cls, value: Any) -> Any:
        return value.isoformat() if hasattr(value, "isoformat") else value


def parse_declaration(text: str, source: str = "study.yaml") -> Declaration:
    """Read a declaration from YAML.

    Raises
    ------
    DeclarationError
        If the text is no YAML mapping, or a key or value is not understood; the message names it.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" near line {where.line + 1}" if where is not None else ""
        raise DeclarationError(f"{source} is not valid YAML{line}; correct the file and deliver it again") from error
    if content is None:
        return Declaration()
    if not isinstance(content, Mapping):
        raise DeclarationError(f"{source} must be a mapping of keys to values, found a {type(content).__name__}")
    return read_declaration(content, source)


def read_declaration(content: Mapping[str, Any], source: str = "study.yaml") -> Declaration:
    """Build a declaration from its keys and values.

    Raises
    ------
    DeclarationError
        If a key or value is not understood; the message names it.
    """
    try:
        return Declaration.model_validate(content)
    except ValidationError as error:
        raise DeclarationError(f"{source}: {_first_problem(error)}") from error


_MISSING = {
    "override.reason": "overriding a verdict needs a written reason",
    "override.by": "overriding a verdict needs the name of who decides",
    "override.verdict": "an override names its verdict: GO, CANARY or HOLD",
}
# These change what is said about the results, never a result.
NO_NUMBER_DEPENDS_ON = {"override", "language"}


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(where, Declaration.model_fields, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known keys are {', '.join(Declaration.model_fields)}"
        return f"key '{where}' is not known; {hint}"
    if problem["type"] == "missing":
        return f"'{where}' is missing; {_MISSING.get(where, 'write it, or leave out the whole block')}"
    wanted = problem["msg"].removeprefix("Value error, ").split(" or instance of ")[0]
    wanted = wanted.replace("valid dictionary", "mapping of names to values")
    return f"'{where}' is {problem.get('input')!r}: {wanted.replace('valid tuple', 'list')}"
