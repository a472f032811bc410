"""Numbers in words, as the report and its charts say them."""

from __future__ import annotations


def percent(value: float, digits: int = 1) -> str:
    """0.905 -> "90.5%", 0.9 -> "90%"."""
    text = f"{100 * value:.{digits}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) + "%"


def spaced(name: str) -> str:
    """A task's name with spaces in place of underscores: LIBERO's are sentences, which have to wrap."""
    return name.replace("_", " ")


def duration(seconds: float) -> str:
    """73.4 -> "1 min 13 s"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    parts = [f"{hours} h"] * bool(hours) + [f"{minutes} min"] * bool(minutes) + [f"{rest} s"] * (rest > 0 and not hours)
    return " ".join(parts)
