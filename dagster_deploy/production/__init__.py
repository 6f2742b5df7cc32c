"""Production: configuration of a cluster, and what it takes."""
