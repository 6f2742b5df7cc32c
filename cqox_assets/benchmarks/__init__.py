"""What the benchmark command is made of: measuring, the cases, the worker process, the peers, the report."""
