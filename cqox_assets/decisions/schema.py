"""The published schema of the decision card: ``python -m cqox_assets.decisions.schema CARD.json ...`` checks cards."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SCHEMA = Path(__file__).with_name("decision_card.schema.json")


def violations(card: Mapping[str, Any]) -> list[str]:
    """Return where a card does not keep to the schema, one sentence each; an empty list if it does."""
    from jsonschema import Draft202012Validator

    checker = Draft202012Validator(json.loads(SCHEMA.read_text("utf-8")))
    found = sorted(checker.iter_errors(card), key=lambda error: list(map(str, error.absolute_path)))
    return [f"{error.json_path}: {error.message[:200]}" for error in found]


def main(arguments: Sequence[str] | None = None) -> int:
    """Check cards; return 0 if every one keeps to the schema, 1 if one does not, 2 if one cannot be read."""
    paths = list(sys.argv[1:] if arguments is None else arguments)
    if not paths:
        print("usage: python -m cqox_assets.decisions.schema CARD.json ...", file=sys.stderr)
        return 2
    worst = 0
    for path in paths:
        try:
            found = violations(json.loads(Path(path).read_text("utf-8")))
        except (OSError, ValueError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            worst = 2
            continue
        print("\n".join([f"{path}: {sentence}" for sentence in found] or [f"{path}: keeps to version 1 of the schema"]))
        worst = max(worst, 1 if found else 0)
    return worst


if __name__ == "__main__":
    sys.exit(main())
