"""Write the table of metrics into docs/observability.md: ``python -m dagster_deploy.observability.page``."""

from pathlib import Path

from dagster_deploy.observability.catalogue import markdown

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "observability.md"
_BEGIN, _END = "<!-- metrics: from the catalogue -->\n", "<!-- end of metrics -->\n"


def main() -> None:
    """Put the table between its marks."""
    head, _, rest = PAGE.read_text("utf-8").partition(_BEGIN)
    PAGE.write_text(f"{head}{_BEGIN}{markdown()}\n{_END}{rest.partition(_END)[2]}", "utf-8")


if __name__ == "__main__":
    main()
