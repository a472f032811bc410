"""What is asked for, in words. The last `HELD_OUT` phrasings of a task are kept for the condition "paraphrase-en"."""

from __future__ import annotations

from collections.abc import Mapping

HELD_OUT = 2


def _binned(thing: str) -> tuple[str, ...]:
    return (
        f"put the {thing} in its bin",
        f"pick up the {thing} and place it in its bin",
        f"move the {thing} into the bin where it belongs",
        f"take the {thing} and put it in the right bin",
        f"sort the {thing} into its bin",
        f"the {thing} belongs in its compartment, put it there",
        f"carry the {thing} over to its own bin and let go",
    )


def _stacked(upper: str, lower: str) -> tuple[str, ...]:
    return (
        f"stack the {upper} cube on the {lower} cube",
        f"put the {upper} cube on top of the {lower} cube",
        f"place the {upper} cube on the {lower} one",
        f"pick up the {upper} cube and set it on the {lower} cube",
        f"make a tower with the {upper} cube above the {lower} cube",
        f"the {upper} block goes on top of the {lower} block",
        f"balance the {upper} cube on the {lower} cube",
    )


TEXTS: Mapping[str, tuple[str, ...]] = {
    "lift": (
        "lift the red cube",
        "pick up the red cube",
        "raise the red cube off the table",
        "grasp the red cube and lift it",
        "take the red cube up from the table",
        "get the red block into the air",
        "hold the red cube above the table",
    ),
    "stack": _stacked("red", "green"),
    "stack-red-green": _stacked("red", "green"),
    "stack-green-red": _stacked("green", "red"),
    "can": _binned("can"),
    "milk": _binned("milk carton"),
    "bread": _binned("bread"),
    "cereal": _binned("cereal box"),
    "pick-can": _binned("can"),
    "pick-milk": _binned("milk carton"),
    "pick-bread": _binned("bread"),
    "pick-cereal": _binned("cereal box"),
    "square": (
        "put the square nut on the square peg",
        "place the square nut over the square peg",
        "fit the square nut onto the peg",
        "pick up the square nut and drop it over its peg",
        "slide the square nut down the square peg",
        "thread the square nut on the peg that matches it",
        "the square nut goes around the square peg",
    ),
    "door": (
        "open the door",
        "turn the handle and open the door",
        "push the handle down and pull the door open",
        "unlatch the door and open it",
        "pull the door open by its handle",
        "get the door to swing open",
        "use the handle to open the door for me",
    ),
    "wipe": (
        "wipe the table",
        "wipe the dirt off the table",
        "clean the table",
        "wipe the marks off the table top",
        "rub the table until it is clean",
        "remove all of the dirt from the table",
        "give the table a wipe",
    ),
    "tool-hang": (
        "hang the tool on the frame",
        "put the frame into its stand and hang the tool on it",
        "insert the frame and hang the tool",
        "assemble the frame and hang up the tool",
        "set up the frame, then hang the tool on its hook",
        "the tool should hang on the frame",
        "build the stand and put the tool on its hook",
    ),
    "two-arm-lift": (
        "lift the pot with both hands",
        "lift the pot by its two handles",
        "pick up the pot with both arms",
        "raise the pot off the table with two hands",
        "take the pot by both handles and lift it",
        "get the pot into the air, one hand on each handle",
        "hold the pot above the table with both arms",
    ),
    "two-arm-peg": (
        "put the peg in the hole",
        "insert the peg into the hole of the plate",
        "push the peg through the hole in the plate",
        "fit the peg into the plate's hole",
        "bring the peg and the plate together, peg in hole",
        "the peg goes through the plate",
        "stick the peg in the opening of the plate",
    ),
    "two-arm-handover": (
        "hand over the hammer",
        "pass the hammer from one hand to the other",
        "pick up the hammer and give it to the other arm",
        "hand the hammer to the other arm",
        "lift the hammer and pass it across",
        "give the hammer to the second hand",
        "let the other hand take the hammer by its handle",
    ),
}
"""Task -> phrasings, the plainest first."""
