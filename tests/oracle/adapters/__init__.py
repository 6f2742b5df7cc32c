"""One adapter per method of the references, found by walking.

An adapter has `KEYS`, `PARAMS` and `ROLES` (what it follows of a spec beyond the common keys; anything else leaves the
entry uncovered) and `answer(case) -> Answer`.
"""
