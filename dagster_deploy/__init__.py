"""Deployment: the definitions, the web server and its settings."""

import os
import warnings

# Before anything is imported that would ask the network or print what a user cannot act on.
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
# Mapping two partition dimensions to one is beta in Dagster; the lock file pins the version that is tested.
warnings.filterwarnings("ignore", message=".*MultiToSingleDimensionPartitionMapping.*")
# Steps run one after the other and studies are small: threads of linear algebra would only wait for one another, and on
# a busy machine they cost many times the CPU of one. LightGBM is told its threads where it is called.
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")
