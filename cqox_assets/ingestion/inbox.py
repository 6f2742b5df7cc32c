"""The inbox on disk: which files count, and how a file that cannot be taken leaves it without being lost."""

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path

from cqox_resources.settings import Settings

SIDE_TABLES = ("edges",)
DECLARATIONS = ("study.yaml", "study.yml")
OUT_OF_PLACE = "out_of_place"
_UNFINISHED = (".part", ".tmp", ".crdownload", ".swp")


def is_finished(path: Path) -> bool:
    """Whether the name is that of a delivered file, not of a hidden or half-written one."""
    return not path.name.startswith((".", "~$")) and path.suffix.lower() not in _UNFINISHED


def delivered(folder: Path) -> list[Path]:
    """Return every delivered file of a folder by name: data, declaration and side tables."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file() and is_finished(path))


def data_files(folder: Path) -> list[Path]:
    """Return the data files of a partition's folder by name."""
    return [path for path in delivered(folder) if not is_declaration(path) and side_table(path) is None]


def is_declaration(path: Path) -> bool:
    """Whether the file is `study.yaml`, in any spelling that people use."""
    return path.name.lower() in DECLARATIONS


def side_table(path: Path) -> str | None:
    """Return the name of the side table that a file holds, such as `edges` for `Edges.csv.gz`, or None."""
    name = path.name.lower().partition(".")[0]
    return name if name in SIDE_TABLES else None


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def readable_name(path: Path) -> str:
    """Return a file's name as text; one that is not UTF-8, as old archives hold them, is read as Japanese or Western.

    Notes
    -----
    Python keeps the bytes of such a name as surrogates, which no report, log or database can store.
    """
    raw = os.fsencode(path.name)
    for encoding in ("utf-8", "cp932", "cp1252"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return raw.decode("latin-1")


def quarantine(settings: Settings, path: Path, place: str, code: str, reason: str) -> Path:
    """Move a file out of the inbox and write down why; nothing is ever overwritten.

    Parameters
    ----------
    path : Path
        The file.
    place : str
        Folder below the quarantine, normally `domain/period`.
    code, reason : str
        Stable code and one sentence.

    Returns
    -------
    Path
        Where the file is now; `<name>.reason.json` beside it says why.
    """
    folder = settings.quarantine / place
    folder.mkdir(parents=True, exist_ok=True)
    digest = file_sha256(path)
    target = folder / path.name
    if target.exists():
        target = folder / f"{digest[:12]}-{path.name}"
    record = {
        "file": readable_name(path),
        "from": str(path.with_name(readable_name(path))),
        "sha256": digest,
        "code": code,
        "reason": reason,
        "moved": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    note = target.with_name(target.name + ".reason.json")
    # The reason comes first: a move without a reason would be a file that nobody can explain.
    note.write_text(json.dumps(record, ensure_ascii=False, indent=1), "utf-8")
    try:
        os.replace(path, target)
    except OSError:  # another file system
        import shutil

        shutil.move(str(path), target)
    return target


def quarantined(settings: Settings, place: str) -> list[tuple[str, str]]:
    """Return (name, sha256) of the files of a partition that could not be read and are in quarantine.

    Files that were out of place are no part of it, and a note that a person has changed or a killed writer has left
    half-written says nothing.
    """
    folder = settings.quarantine / place
    found = []
    for note in sorted(folder.glob("*.reason.json")) if folder.is_dir() else ():
        try:
            record = json.loads(note.read_text("utf-8"))
            if record["code"] != OUT_OF_PLACE:
                found.append((str(record["file"]), str(record["sha256"])))
        except (ValueError, KeyError, TypeError):
            continue
    return found
