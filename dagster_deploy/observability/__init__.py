"""What the product tells about itself: metrics for Prometheus, traces over OTLP, JSON logs; off until it is asked for.

Nothing here is imported by the graph, and no library of metrics or traces is loaded before a setting asks for it.
"""
