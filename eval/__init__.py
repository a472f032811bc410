"""Judging policies in closed loop: rollouts, the results table, intervals, the summary and the report."""
