"""Exceptions that users of CQOx meet; each class has a stable code for programs and a sentence for people."""

from pathlib import Path


class CqoxError(Exception):
    """Base of every error that CQOx raises on purpose.

    Parameters
    ----------
    message : str
        One sentence: what was found, what is wanted and what to do next.
    code : str, optional
        Stable machine-readable code; the class's own code by default.
    """

    code = "cqox_error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class IngestionError(CqoxError):
    """A file cannot be read as one table; `path` is that file, where one file is to blame."""

    code = "unreadable_file"
    path: Path | None = None


class DeclarationError(CqoxError):
    """`study.yaml` or a domain profile says something that cannot be followed."""

    code = "bad_declaration"


class MappingError(CqoxError):
    """A role names a column that is missing or that cannot play the role."""

    code = "bad_mapping"


class DataError(MappingError):
    """The values of a column cannot play its role: the public functions answer with a refusal, not with this error."""

    code = "bad_values"


class ContractError(CqoxError):
    """A component broke the contract of a shared type: a bug, never the user's fault."""

    code = "broken_contract"


class CatalogError(CqoxError):
    """A catalogue entry is unknown, malformed or was given a parameter that it does not have."""

    code = "bad_catalogue_entry"


class StorageError(CqoxError):
    """A stored result is missing or damaged."""

    code = "damaged_result"


class NotDrawnError(CqoxError):
    """A figure cannot be drawn from these results; the message says why in one sentence, for its reader."""

    code = "not_drawn"
