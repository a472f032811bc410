"""The arm: a seven-joint manipulator with a two-finger hand, as MJCF text.

Kinematics (link frames, joint limits, torque limits) are those of the Franka Emika Panda's public datasheet; link
masses
follow the identification of Gaz et al., "Dynamic Identification of the Franka Emika Panda Robot" (RA-L 2019). Links are
drawn and weighed as capsules: real inertias differ a little, and in exchange a frame renders ten times faster.
"""

from __future__ import annotations

from math import pi

JOINTS = tuple(f"joint{i}" for i in range(1, 8))
JOINT_LOW = (-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973)
JOINT_HIGH = (2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973)
TORQUE_LIMIT = (87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0)
LINK_MASS = (4.97, 0.65, 3.23, 3.59, 1.23, 1.67, 0.74)
HOME = (0.0, -0.28, 0.0, -2.32, 0.0, 2.04, pi / 4)  # tool points straight down over the back of the workspace
FINGER_TRAVEL = 0.04  # metres each finger moves; the hand opens to twice this
TOOL_OFFSET = 0.1034  # metres from the hand frame to the point between the finger tips

_WHITE = "0.93 0.93 0.95 1"
_GREY = "0.25 0.26 0.30 1"

# Frame of each link in its parent (position, quaternion w x y z) and the capsules that stand for it (from, to, radius).
_LINKS = (
    ("0 0 0.333", "1 0 0 0", (("0 0 -0.18", "0 0 -0.04", 0.06),)),
    ("0 0 0", "0.70711 -0.70711 0 0", (("0 0 -0.05", "0 0 0.05", 0.06),)),
    ("0 -0.316 0", "0.70711 0.70711 0 0", (("0 0 -0.22", "0 0 -0.07", 0.058),)),
    ("0.0825 0 0", "0.70711 0.70711 0 0", (("0 0 -0.04", "0 0 0.04", 0.056),)),
    ("-0.0825 0.384 0", "0.70711 -0.70711 0 0", (("0 0.02 -0.28", "0 0.05 -0.08", 0.05),)),
    ("0 0 0", "0.70711 0.70711 0 0", (("0 0 -0.05", "0 0 0.02", 0.048),)),
    ("0.088 0 0", "0.70711 0.70711 0 0", (("0 0 0.01", "0 0 0.07", 0.042),)),
)


def arm_body(wrist_camera: str = "") -> str:
    """MJCF of the arm's body tree, base at the world's origin; `wrist_camera` is a camera element fixed to the hand."""
    opening, closing = [], []
    for number, ((position, quaternion, capsules), mass) in enumerate(zip(_LINKS, LINK_MASS, strict=True), start=1):
        low, high = JOINT_LOW[number - 1], JOINT_HIGH[number - 1]
        opening.append(
            f'<body name="link{number}" pos="{position}" quat="{quaternion}" gravcomp="1">'
            f'<joint name="joint{number}" axis="0 0 1" range="{low} {high}" damping="2" armature="0.1"/>'
        )
        opening.extend(
            f'<geom class="link" type="capsule" fromto="{start} {end}" size="{radius}" mass="{mass / len(capsules)}"/>'
            for start, end, radius in capsules
        )
        closing.append("</body>")
    return (
        f'<geom class="link" type="cylinder" pos="0 0 0.07" size="0.075 0.07" rgba="{_GREY}"/>'
        + "".join(opening)
        + _hand(wrist_camera)
        + "".join(closing)
    )


def _hand(wrist_camera: str) -> str:
    fingers = "".join(
        f'<body name="{side}_finger" pos="0 0 0.0584" gravcomp="1">'
        f'<joint name="{side}_finger" type="slide" axis="0 {sign} 0" range="0 {FINGER_TRAVEL}" '
        f'damping="8" armature="0.1"/>'
        f'<geom class="finger" name="{side}_finger" type="box" pos="0 {sign * 0.0065} 0.026" '
        f'size="0.009 0.0065 0.026" mass="0.05"/>'
        "</body>"
        for side, sign in (("left", 1), ("right", -1))
    )
    # The hand hangs 0.107 m below the last joint, turned by -45 degrees so that at joint7 = 45 degrees its x axis is
    # the world's.
    return (
        '<body name="hand" pos="0 0 0.107" quat="0.92388 0 0 -0.38268" gravcomp="1">'
        f'<geom class="hand" name="hand" type="box" pos="0 0 0.032" size="0.028 0.1 0.03" mass="0.7" rgba="{_GREY}"/>'
        f'<site name="tool" pos="0 0 {TOOL_OFFSET}" size="0.004" group="5"/>'
        f"{wrist_camera}{fingers}</body>"
    )


def arm_defaults() -> str:
    """Geometry classes: links are drawn only, the hand and the fingers touch the world."""
    return (
        f'<default class="link"><geom contype="0" conaffinity="0" group="1" rgba="{_WHITE}"/></default>'
        '<default class="hand"><geom contype="1" conaffinity="1" condim="3"/></default>'
        f'<default class="finger"><geom contype="1" conaffinity="1" condim="4" '
        f'friction="1.6 0.02 0.001" solref="0.01 1" '
        f'priority="1" rgba="{_GREY}"/></default>'
    )


def arm_actuators() -> str:
    """Joint servos with the datasheet's torque limits, and one servo for both fingers (ctrl: metres of one)."""
    gains = (3500, 3500, 2500, 2500, 1500, 1500, 1000)
    servos = "".join(
        f'<position name="joint{i}" joint="joint{i}" kp="{kp}" kv="{kp / 10}" forcerange="-{limit} {limit}"/>'
        for i, (kp, limit) in enumerate(zip(gains, TORQUE_LIMIT, strict=True), start=1)
    )
    return (
        '<tendon><fixed name="grip"><joint joint="left_finger" coef="0.5"/>'
        '<joint joint="right_finger" coef="0.5"/></fixed></tendon>'
        '<equality><joint joint1="left_finger" joint2="right_finger" solref="0.01 1"/></equality>'
        f"<actuator>{servos}"
        f'<position name="grip" tendon="grip" kp="800" kv="40" forcerange="-30 30" '
        f'ctrlrange="0 {FINGER_TRAVEL}"/></actuator>'
    )
