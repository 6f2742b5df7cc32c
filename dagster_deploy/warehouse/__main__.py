"""Open the warehouse as SQL tables, or publish them to Postgres.

``python -m dagster_deploy.warehouse shell`` reads statements and prints what they find; ``sql "SELECT ..."`` runs one;
``tables`` lists what there is; ``publish`` fills the database that CQOX_BI_POSTGRES_URL names; ``describe`` prints the
columns as markdown. The warehouse is the one of CQOX_WAREHOUSE, or of CQOX_HOME.
"""

import argparse
import csv
import json
import re
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from cqox_assets.errors import CqoxError
from cqox_resources.settings import Settings
from dagster_deploy.warehouse.star import TABLES

# Partitions are listed when their module is imported, from settings that have to be looked at first.
if TYPE_CHECKING:
    from dagster_deploy.warehouse.stored import Warehouse

BAD_SETTING = 2
_DOMAIN, _PERIOD = re.compile(r"[a-z0-9_-]+"), re.compile(r"\d{4}(-(0[1-9]|1[0-2])?)?")
_PROMPT, _MORE = "cqox> ", "   -> "
_HELP = "A statement ends with ';'. `tables` lists what there is, `refresh` forgets what was read, `exit` leaves."


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    whole = argparse.ArgumentParser(
        prog="python -m dagster_deploy.warehouse", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, said in (("shell", "read statements from the terminal"), ("sql", "run statements and print the rows"),
                       ("tables", "list tables and views"), ("publish", "fill the Postgres database of BI tools"),
                       ("describe", "print the columns of the star as markdown")):  # fmt: skip
        command = commands.add_parser(name, help=said, description=said)
        if name != "describe":
            command.add_argument("--domain", type=_domain, help="only this domain")
        if name in ("shell", "sql", "tables"):
            command.add_argument("--period", type=_months, help="only periods that begin so, such as 2025 or 2025-03")
        if name == "sql":
            command.add_argument("statement", help="SQL; - reads it from standard input")
            command.add_argument("--format", choices=("table", "csv", "json"), default="table")
        if name == "publish":
            command.add_argument("--postgres", metavar="URL", help="CQOX_BI_POSTGRES_URL when not given")
            command.add_argument("--everything", action="store_true", help="also partitions whose card did not change")
            command.add_argument(
                "--timescale",
                choices=("auto", "off", "require"),
                default="auto",
                help="hypertable of the effect history",
            )
    return whole


def _domain(text: str) -> str:
    if not _DOMAIN.fullmatch(text):
        raise argparse.ArgumentTypeError(f"'{text}' is no domain; it must read like 'healthcare'")
    return text


def _months(text: str) -> str:
    if not _PERIOD.fullmatch(text):
        raise argparse.ArgumentTypeError(f"'{text}' is no period; it must read like 2025 or 2025-03")
    return text


def settings_now() -> Settings:
    """Return the settings.

    Raises
    ------
    CqoxError
        If a URL in them cannot be followed.
    """
    try:
        return Settings.from_env()
    except (ValueError, ImportError) as error:  # fsspec knows no such protocol, or its package is missing
        raise CqoxError(f"CQOX_WAREHOUSE or CQOX_REPORTS cannot be followed: {str(error).splitlines()[0]}; "
                        "expected a folder or an fsspec URL such as s3://bucket/warehouse") from error  # fmt: skip


def opened(domain: str | None, period: str | None) -> "Warehouse":
    """Return the warehouse of the settings.

    Raises
    ------
    CqoxError
        If it is not there, or its URL cannot be followed.
    """
    settings = settings_now()
    from dagster_deploy.warehouse.stored import Warehouse

    return Warehouse(settings.warehouse, domain, period)


def _opened_by(options: argparse.Namespace) -> "Warehouse":
    return opened(options.domain, options.period)


def run_sql(options: argparse.Namespace) -> None:
    """Run statements and print their rows."""
    text, warehouse = sys.stdin.read() if options.statement == "-" else options.statement, _opened_by(options)
    from dagster_deploy.warehouse.duck import Tables

    with Tables(warehouse) as tables:
        for relation in tables.run(text):
            if relation is not None:
                _print(relation, options.format)


def _print(relation: Any, form: str) -> None:
    if form == "table":
        print(relation)
        return
    if form == "json":
        read = [json.loads if str(kind) == "JSON" else None for kind in relation.types]
        rows = [
            {name: value if value is None or parse is None else parse(value)
             for name, value, parse in zip(relation.columns, row, read, strict=True)}
            for row in relation.fetchall()
        ]  # fmt: skip
        print(json.dumps(rows, ensure_ascii=False, indent=1, default=str))
        return
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(relation.columns)
    writer.writerows(relation.fetchall())


def run_shell(options: argparse.Namespace) -> None:
    """Read statements and print what they find until the input ends."""
    warehouse = _opened_by(options)
    from dagster_deploy.warehouse.duck import Tables

    if sys.stdin.isatty():
        import readline  # noqa: F401  (arrow keys and history)

        print(_HELP)
    tables = Tables(warehouse)
    for text in _statements():
        word = text.strip().rstrip(";").lower()
        try:
            if word == "refresh":
                tables = Tables(_opened_by(options))
            elif word == "tables":
                _list(tables)
            else:
                for relation in tables.run(text):
                    if relation is not None:
                        print(relation)
        except CqoxError as error:
            print(error.message, file=sys.stderr)


def _statements() -> Iterator[str]:
    """Yield what is typed up to a semicolon, or one of the shell's own words."""
    held: list[str] = []
    while True:
        try:
            line = input((_MORE if held else _PROMPT) if sys.stdin.isatty() else "")
        except EOFError:
            if "".join(held).strip():
                yield "\n".join(held)
            return
        if not held and line.strip().lower() in ("exit", "quit", ".exit", ".quit"):
            return
        if not held and not line.strip():
            continue
        held.append(line)
        if line.rstrip().endswith(";") or (len(held) == 1 and line.strip().lower() in ("tables", "refresh")):
            yield "\n".join(held)
            held = []


def _list(tables: Any) -> None:
    for name, said in tables.views():
        print(f"{name:<44}{said}")


def run_tables(options: argparse.Namespace) -> None:
    """List tables and views."""
    warehouse = _opened_by(options)
    from dagster_deploy.warehouse.duck import Tables

    with Tables(warehouse) as tables:
        _list(tables)


def run_publish(options: argparse.Namespace) -> None:
    """Publish every domain, or one."""
    wanted = options.postgres or settings_now().bi_postgres_url
    warehouse = opened(options.domain, None)
    from dagster_deploy.warehouse.postgres import Publisher, checked_url

    url = checked_url(wanted)
    with Publisher(url, options.timescale) as publisher:
        for sentence in publisher.migrated:
            print(sentence)
        print(publisher.timescale)
        for domain in warehouse.domains():
            print(publisher.publish(warehouse, domain, options.everything).sentence(), flush=True)


def describe() -> str:
    """Return the star's tables and columns as markdown."""
    lines = []
    for table in TABLES:
        lines += [f"### {table.name}", "", table.comment, "", "| column | type | meaning |", "|---|---|---|"]
        for column in table.columns:
            title = f"**{column.name}**" if column.key else column.name
            lines.append(f"| {title} | {column.type} | {column.comment} |")
        lines.append("")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 2 where a setting or a statement is no good."""
    options = parser().parse_args(arguments)
    commands = {"shell": run_shell, "sql": run_sql, "tables": run_tables, "publish": run_publish,
                "describe": lambda _: print(describe())}  # fmt: skip
    try:
        commands[options.command](options)
    except CqoxError as error:
        print(error.message, file=sys.stderr)
        return BAD_SETTING
    return 0


if __name__ == "__main__":
    sys.exit(main())
