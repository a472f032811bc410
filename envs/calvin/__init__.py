"""CALVIN: a play table with a drawer, a sliding door, a switch, a button and three blocks."""
