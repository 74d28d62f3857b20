"""Arranges the next invocation of a run: somebody has to call the workflow's function again."""
