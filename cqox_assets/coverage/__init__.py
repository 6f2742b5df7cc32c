"""How honest intervals are: bias, coverage and size of every estimator on the designs that it claims.

`python -m cqox_assets.coverage --draws 1000 --out docs/coverage.md` writes the table and its numbers (a JSON file of
the same name). What an estimator is held to follows from its catalogue entry: `truths`, `breaks`, `interval_claim`,
`claim_bias`, `claim_coverage` and `coverage_rows`. `simulation` draws studies and adds up what came out of them, `runs`
does so in several processes, `claims` judges it, `report` keeps and prints it.
"""
