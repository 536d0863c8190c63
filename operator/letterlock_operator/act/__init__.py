"""Carries plans out on a cluster.

Promises: doing it twice does no harm, and nothing is written that stands already. Every answer to a write
goes into the store at once, so that the next decision sees it before the watch shows it.
"""
