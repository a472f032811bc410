"""The embedded default world: a seven-joint arm over a table of coloured shapes."""
