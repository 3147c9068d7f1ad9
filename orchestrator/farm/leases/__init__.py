"""Work under leases: claims, grants, results, and taking back what was lost.

The dispatcher's and the worker protocol's verbs.
"""
