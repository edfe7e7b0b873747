"""Serving the engine over HTTP."""
