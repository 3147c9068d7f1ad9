"""Prompts and storyboards understood: text in, scenes and instructions out.

Pure functions of the text and a model's vocabulary; no model is run.
"""
