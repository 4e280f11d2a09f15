"""Serving a reasoner: the app, its engines, and what stands beside them: cache, metrics, experiments, feedback."""
