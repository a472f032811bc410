"""Meta-World's fifty tasks: how hard each is, which belong to MT10, and what is said to ask for them."""

from __future__ import annotations

TIERS: dict[str, tuple[str, ...]] = {
    "easy": (
        *("button-press", "button-press-topdown", "button-press-topdown-wall", "button-press-wall", "coffee-button"),
        *("dial-turn", "door-close", "door-lock", "door-open", "door-unlock", "drawer-close", "drawer-open"),
        *("faucet-close", "faucet-open", "handle-press", "handle-press-side", "handle-pull", "handle-pull-side"),
        *("lever-pull", "peg-unplug-side", "plate-slide", "plate-slide-back", "plate-slide-back-side"),
        *("plate-slide-side", "reach", "reach-wall", "window-close", "window-open"),
    ),
    "medium": (
        *("basketball", "bin-picking", "box-close", "coffee-pull", "coffee-push", "hammer", "peg-insert-side"),
        *("push-wall", "soccer", "sweep", "sweep-into"),
    ),
    "hard": ("assembly", "hand-insert", "pick-out-of-hole", "pick-place", "push", "push-back"),
    "very hard": ("disassemble", "pick-place-wall", "shelf-place", "stick-pull", "stick-push"),
}
"""Tasks by how hard they are (Seo et al. 2022, arXiv:2206.14244, appendix F), without the `-v3` of their names."""

MT10 = (
    *("reach", "push", "pick-place", "door-open", "drawer-open", "drawer-close", "button-press-topdown"),
    *("peg-insert-side", "window-open", "window-close"),
)
MT50 = tuple(sorted(task for tasks in TIERS.values() for task in tasks))

HELD_OUT = 1  # phrasings of each task that are kept for the condition "paraphrase-en": the last

PHRASINGS: dict[str, tuple[str, ...]] = {
    "assembly": (
        "put the ring over the peg",
        "pick up the ring by its handle and lower it onto the peg",
        "assemble the nut on the peg",
        "fit the round nut onto the post",
    ),
    "basketball": (
        "throw the basketball into the basket",
        "put the ball through the hoop",
        "pick up the basketball and drop it in the basket",
        "dunk the ball",
    ),
    "bin-picking": (
        "move the cube from one bin to the other",
        "pick the cube out of its bin and put it in the other bin",
        "carry the cube over to the second bin",
        "transfer the block between the bins",
    ),
    "box-close": (
        "close the box with its lid",
        "put the lid on the box",
        "pick up the cover and close the box",
        "cover the box",
    ),
    "button-press": (
        "press the button",
        "push the button in from the front",
        "push in the red button",
        "reach out and hit the button",
    ),
    "button-press-topdown": (
        "press the button from above",
        "push the button down",
        "press down on the red button",
        "hit the button on top",
    ),
    "button-press-topdown-wall": (
        "press the button behind the wall from above",
        "go over the wall and push the button down",
        "reach over the wall and press down on the button",
        "get past the bricks and hit the button on top",
    ),
    "button-press-wall": (
        "press the button behind the wall",
        "go around the wall and push the button in",
        "get past the wall and press the button from the front",
        "reach behind the bricks and hit the button",
    ),
    "coffee-button": (
        "press the button of the coffee machine",
        "push the button on the coffee maker",
        "start the coffee machine",
        "make some coffee",
    ),
    "coffee-pull": (
        "pull the mug away from the coffee machine",
        "take the mug from under the coffee maker",
        "move the mug back from the coffee machine",
        "fetch the cup from the machine",
    ),
    "coffee-push": (
        "push the mug under the coffee machine",
        "put the mug below the coffee maker",
        "move the mug to the coffee machine",
        "slide the cup to where the coffee comes out",
    ),
    "dial-turn": ("turn the dial", "rotate the dial", "give the dial half a turn", "twist the knob around"),
    "disassemble": (
        "take the ring off the peg",
        "pull the nut up from the peg",
        "lift the ring by its handle until it is free of the peg",
        "remove the round nut from the post",
    ),
    "door-close": ("close the door", "push the door shut", "shut the door of the safe", "make sure the door is shut"),
    "door-lock": (
        "lock the door",
        "turn the lock of the door clockwise",
        "rotate the knob so that the door is locked",
        "secure the door with its lock",
    ),
    "door-open": (
        "open the door",
        "pull the door open by its handle",
        "open the door of the safe",
        "swing the door out",
    ),
    "door-unlock": (
        "unlock the door",
        "turn the lock of the door counterclockwise",
        "rotate the knob so that the door is unlocked",
        "release the lock of the door",
    ),
    "drawer-close": ("close the drawer", "push the drawer in", "shut the drawer", "slide the drawer back in"),
    "drawer-open": (
        "open the drawer",
        "pull the drawer out by its handle",
        "pull open the drawer",
        "slide the drawer out",
    ),
    "faucet-close": (
        "close the faucet",
        "turn the faucet off",
        "turn the faucet handle clockwise",
        "shut off the tap",
    ),
    "faucet-open": (
        "open the faucet",
        "turn the faucet on",
        "turn the faucet handle counterclockwise",
        "get the tap running",
    ),
    "hammer": (
        "hammer the nail into the wall",
        "pick up the hammer and hit the nail",
        "drive the nail in with the hammer",
        "knock the nail in",
    ),
    "hand-insert": (
        "put the cube into the hole with the hand",
        "insert the gripper with the cube into the hole",
        "lower the cube into the opening in the table",
        "bring the block down into the gap",
    ),
    "handle-press": (
        "press the handle down",
        "push down the handle",
        "press down on the handle from the front",
        "force the lever of the box down",
    ),
    "handle-press-side": (
        "press the handle down from the side",
        "push down the handle that faces sideways",
        "press down on the sideways handle",
        "force the lever at the side down",
    ),
    "handle-pull": (
        "pull the handle up",
        "lift the handle",
        "raise the handle from the front",
        "bring the lever of the box up",
    ),
    "handle-pull-side": (
        "pull the handle up from the side",
        "lift the handle that faces sideways",
        "raise the sideways handle",
        "bring the lever at the side up",
    ),
    "lever-pull": (
        "pull the lever up",
        "raise the lever",
        "lift the lever by a quarter turn",
        "swing the lever upright",
    ),
    "peg-insert-side": (
        "insert the peg into the hole in the side of the box",
        "pick up the peg and push it into the side of the box",
        "put the peg sideways into the hole",
        "plug the green peg into the box",
    ),
    "peg-unplug-side": (
        "pull the peg out of the side of the box",
        "unplug the peg",
        "take hold of the plug and pull it out sideways",
        "remove the plug from its socket",
    ),
    "pick-out-of-hole": (
        "pick the cube out of the hole",
        "take the object out of the hole and bring it to the goal",
        "lift the cube up from the hole",
        "get the block out of the pit",
    ),
    "pick-place": (
        "pick up the cube and place it at the goal",
        "carry the cube to the goal point",
        "lift the cube to the marked point",
        "bring the block up to the target",
    ),
    "pick-place-wall": (
        "pick up the cube and carry it over the wall to the goal",
        "lift the cube over the wall and place it at the goal",
        "bring the cube to the goal behind the wall",
        "take the block across the bricks to the target",
    ),
    "plate-slide": (
        "slide the plate into the goal",
        "push the plate forward into the cabinet",
        "slide the puck into the net ahead",
        "shove the disc into the goal in front",
    ),
    "plate-slide-back": (
        "slide the plate back out of the goal",
        "pull the plate back from the cabinet",
        "slide the puck back towards the robot",
        "draw the disc back out of the net",
    ),
    "plate-slide-back-side": (
        "slide the plate out of the goal to the side",
        "pull the plate sideways out of the cabinet",
        "slide the puck back out sideways",
        "draw the disc out of the net to the side",
    ),
    "plate-slide-side": (
        "slide the plate sideways into the goal",
        "push the plate into the cabinet at the side",
        "slide the puck into the net at the side",
        "shove the disc sideways into the goal",
    ),
    "push": (
        "push the cube to the goal",
        "slide the cube across the table to the goal",
        "move the cube along the table to the marked point",
        "shove the block to the target",
    ),
    "push-back": (
        "push the cube back to the goal",
        "pull the cube back towards the robot to the goal",
        "slide the cube backwards to the marked point",
        "draw the block back to the target",
    ),
    "push-wall": (
        "push the cube around the wall to the goal",
        "slide the cube past the wall to the goal",
        "move the cube along the table to the goal behind the wall",
        "shove the block past the bricks to the target",
    ),
    "reach": (
        "reach the goal with the hand",
        "move the gripper to the goal point",
        "bring the hand to the marked point",
        "touch the target with the gripper",
    ),
    "reach-wall": (
        "reach the goal behind the wall",
        "move the gripper past the wall to the goal point",
        "bring the hand to the marked point behind the wall",
        "get around the bricks and touch the target",
    ),
    "shelf-place": (
        "put the cube on the shelf",
        "pick up the cube and place it on the shelf",
        "carry the cube to the shelf and leave it there",
        "store the block on the rack",
    ),
    "soccer": (
        "kick the ball into the goal",
        "push the soccer ball into the goal",
        "move the ball into the net",
        "score with the football",
    ),
    "stick-pull": (
        "pull the box with the stick",
        "pick up the stick, hook the container with it and pull",
        "use the stick to draw the container to the goal",
        "fetch the jug with the rod",
    ),
    "stick-push": (
        "push the box with the stick",
        "pick up the stick and push the container to the goal with it",
        "use the stick to move the container away",
        "shove the jug along with the rod",
    ),
    "sweep": (
        "sweep the cube off the table",
        "push the cube over the edge of the table",
        "sweep the cube to the side until it falls",
        "clear the block off the table",
    ),
    "sweep-into": (
        "sweep the cube into the hole",
        "push the cube along the table into the hole",
        "sweep the cube until it falls into the gap",
        "clear the block into the pit",
    ),
    "window-close": (
        "close the window",
        "push the window shut",
        "slide the window closed by its handle",
        "shut the sliding pane",
    ),
    "window-open": (
        "open the window",
        "push the window open",
        "slide the window open by its handle",
        "slide the pane aside",
    ),
}
"""Task -> sentences that ask for it, ours; the first is the plainest."""


def tier(task: str) -> str:
    """How hard a task is: a key of TIERS."""
    return next(name for name, tasks in TIERS.items() if task in tasks)
