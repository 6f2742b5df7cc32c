"""The figure catalogue: one file each."""
