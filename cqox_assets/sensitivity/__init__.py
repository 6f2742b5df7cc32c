"""The sensitivity catalogue: one question each."""
