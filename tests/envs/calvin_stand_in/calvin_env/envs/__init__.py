"""The environment and the task oracle."""
