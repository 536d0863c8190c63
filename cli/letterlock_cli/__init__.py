"""The `letterlock` command: the only place that may import both operator and gateway."""
