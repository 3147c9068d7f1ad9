"""Who is served next, and how far from it a waiting job is.

Pure functions of sessions, units and workers; docs/scheduling.md explains the rules.
"""
