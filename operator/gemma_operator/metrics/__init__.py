"""What is said to Prometheus: plain state that the reconciler and the prober report, read at each scrape.

The names are API (docs: metrics). Nothing here decides or measures engines; `registry.Metrics` is the door.
"""
