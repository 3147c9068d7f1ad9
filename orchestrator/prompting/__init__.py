"""What a prompt or a storyboard says: text in, scenes and instructions out.

Pure functions of the text and a model's vocabulary; no model is run.
"""
