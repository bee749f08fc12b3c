"""When things happen: what is watched, whose turn it is, and one reconcile after another."""
