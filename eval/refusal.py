"""Errors that are answers: raised by deixis itself, written for the user, and said without a traceback."""

from __future__ import annotations

import linecache


def is_refusal(error: BaseException) -> bool:
    """Whether a `raise` of deixis' own made the error."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None or last.tb_frame.f_globals.get("__name__", "").partition(".")[0] != __name__.partition(".")[0]:
        return False
    return linecache.getline(last.tb_frame.f_code.co_filename, last.tb_lineno).lstrip().startswith("raise ")
