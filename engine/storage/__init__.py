"""Files wherever they are: paths and fsspec URLs, for jobs and serving alike."""
