"""Deliver the sample studies: ``python -m dagster_deploy.samples --home DIR [--only "policy|2025-01"]``."""

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from cqox_assets.errors import CqoxError

SOURCE = Path(__file__).resolve().parent.parent / "data"
_PERIOD = re.compile(r"\d{4}-\d{2}")


def partitions(source: Path = SOURCE) -> list[str]:
    """Return the partition keys of the sample studies, such as ``policy|2025-01``, sorted."""
    return sorted(
        f"{folder.parent.name}|{folder.name}"
        for folder in source.glob("*/*")
        if folder.is_dir() and _PERIOD.fullmatch(folder.name)
    )


def deliver(home: Path, only: Sequence[str] | None = None, *, source: Path = SOURCE) -> list[Path]:
    """Copy sample studies into the inbox and their domain profiles into the domains folder.

    A file is written under a name that ends in `.part` and renamed, the declaration and side tables of a study before
    its data, so that a sensor never sees half a study. A file that is there with the same bytes is left alone.

    Parameters
    ----------
    home : Path
        `CQOX_HOME`; its folders are made as needed.
    only : sequence of str, optional
        Partition keys such as ``policy|2025-01``; all sample studies by default.
    source : Path
        Folder with the sample studies.

    Returns
    -------
    list of Path
        The files that were written, in that order; empty if everything was there.

    Raises
    ------
    CqoxError
        If a key is not a sample study, or the folder of studies is not there (it is not part of an installed wheel).
    """
    known = partitions(source)
    if not known:
        raise CqoxError(
            f"no sample studies below {source}; they are part of the repository, not of the installed package: "
            "run this from a clone",
            code="no_samples",
        )
    wanted = known if only is None else list(only)
    for key in wanted:
        if key not in known:
            raise CqoxError(f"'{key}' is not a sample study; there are {', '.join(known)}", code="no_samples")
    written = deliver_profiles(home, source=source)
    for key in wanted:
        domain, period = key.split("|")
        inbox = home / "inbox" / domain / period
        written += [inbox / path.name for path in _ordered(source / domain / period) if _copy(path, inbox / path.name)]
    return written


def deliver_profiles(home: Path, *, source: Path = SOURCE) -> list[Path]:
    """Copy the profiles of the sample studies' own domains into `CQOX_HOME/domains`; return the files written.

    The code location lists domains when it is loaded, so these must be there before it starts.
    """
    profiles = sorted((source / "domains").glob("*.yaml"))
    return [home / "domains" / path.name for path in profiles if _copy(path, home / "domains" / path.name)]


def _ordered(folder: Path) -> Iterator[Path]:
    """Yield declaration, side tables, then data."""
    rank = {"study.yaml": 0, "edges.csv": 1}
    files = (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    yield from sorted(files, key=lambda path: (rank.get(path.name, 2), path.name))


def _copy(path: Path, target: Path) -> bool:
    content = path.read_bytes()
    if target.is_file() and target.read_bytes() == content:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    part.write_bytes(content)
    part.replace(target)
    return True


def main() -> None:
    """Deliver the chosen studies and say where they went."""
    parser = argparse.ArgumentParser(prog="python -m dagster_deploy.samples", description=__doc__)
    parser.add_argument("--home", type=Path, default=Path(os.environ.get("CQOX_HOME", ".cqox")), help="CQOX_HOME")
    parser.add_argument("--only", action="append", metavar="PARTITION", help="such as 'policy|2025-01'; repeatable")
    options = parser.parse_args()
    try:
        written = deliver(options.home, options.only)
    except CqoxError as error:
        sys.exit(error.message)
    for path in written:
        print(path)
    print(f"{len(written)} files delivered" if written else "nothing to deliver: every file is there already")


if __name__ == "__main__":
    main()
