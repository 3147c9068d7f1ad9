"""The order in which sessions are served, and the place of a waiting job in it.

Pure functions of sessions, units and workers; docs/scheduling.md explains the rules.
"""
