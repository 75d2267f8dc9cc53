"""Metrics that single studies ask for. They are plug-ins (docs/extend.md): no run has them unless it is told to."""
