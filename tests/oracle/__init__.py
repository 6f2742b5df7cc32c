"""Runs reference numbers through the public interface."""

import os

# One BLAS thread: on a busy machine several threads on small matrices cost many times more. Set before numpy loads.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
