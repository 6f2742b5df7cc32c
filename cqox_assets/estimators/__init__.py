"""The estimator catalogue: one file each."""
