"""Curation: a new store that holds what is worth training on, and a report of what was left out and why.

`curate.py` runs the steps, one file each: repetition, idle, scores, duplicates, frames, rarity. Import from the module
that owns the idea; `config.py` imports nothing heavy.
"""
