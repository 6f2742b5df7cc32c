"""Deployment: the definitions, the web server and its settings."""

import os
import warnings

# Before anything is imported that would ask the network or print what a user cannot act on.
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
# Mapping two partition dimensions to one is beta in Dagster; the lock file pins the version that is tested.
warnings.filterwarnings("ignore", message=".*MultiToSingleDimensionPartitionMapping.*")
