"""A cluster: settings and their check, the container's entrypoint, Dagster's instance and workspace."""
