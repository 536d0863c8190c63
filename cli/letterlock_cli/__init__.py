"""The `letterlock` command: the only package that may import operator and gateway alike."""
