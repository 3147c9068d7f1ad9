"""Render plans of jobs: shots, frame counts, batches, layouts, and cheaper variants of it.

Pure functions of the brief, the screenplay and the model's card.
"""
