"""The environment variables that storage is set by, beside those of the stores' own libraries."""

CACHE = "TAGLOOM_CACHE"
"""The folder into which every node fetches bundles."""

PATIENCE = "TAGLOOM_STORAGE_PATIENCE"
"""For how many seconds a store is asked again before a job ends."""
