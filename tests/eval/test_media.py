"""Films: which episodes, and that film and strip show them."""

import numpy as np
from PIL import Image

from deixis.envs.suites import suite_named
from deixis.eval.media import choose_clips, film, read_index, write_index


def test_choice_alternates_outcomes_and_tasks(records):
    chosen = choose_clips(records, 6)
    assert len({(r.condition, r.task, r.index) for r in chosen}) == 6
    assert {(r.condition, r.success) for r in chosen} == {
        (c, s) for c in ("correct", "null", "swap") for s in (True, False)
    }
    assert len({r.task for r in chosen}) == 3
    assert choose_clips(records, 6) == chosen
    assert choose_clips(records, 0) == []
    assert sorted(r.index for r in choose_clips(records[:4], 9)) == [0, 1, 2, 3]


def test_film_and_strip(tmp_path, make_record):
    """A real episode of random actions, with an instruction that Pillow's font cannot draw."""
    env = suite_named("tabletop-demo").make(render_mode="rgb_array", disable_env_checker=True)
    record = make_record("push", 7, success=False, steps=9, instruction="把红色方块推到左边")
    env.action_space.seed(0)

    def episode(on_step, on_say):
        env.reset(seed=1, options={"task": "push"})
        on_step()
        for step in range(record.steps):
            on_say("推红色方块" if step > 3 else "move beside the red cube")
            env.step(env.action_space.sample())
            on_step()
        return record

    (tmp_path / "stale.webp").touch()
    clip = film(env, episode, tmp_path)
    write_index([clip], tmp_path)
    assert read_index(tmp_path) == [clip]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["index.json", clip.film, clip.strip])
    assert (clip.instruction, clip.success, clip.steps) == (record.instruction, False, 9)
    assert clip.said == [(0, "move beside the red cube"), (4, "推红色方块")]
    with Image.open(tmp_path / clip.film) as image:
        assert getattr(image, "n_frames", 1) == record.steps + 1
        first, bar = np.array(image.convert("RGB")), image.height - image.width
        image.seek(image.n_frames - 1)  # pyright: ignore[reportAttributeAccessIssue]
        last = np.array(image.convert("RGB"))
    assert bar > 20
    assert (first[-bar:] != last[-bar:]).any()  # "step 0" and the outcome
    assert (first[:-bar] != last[:-bar]).any()  # the arm has moved
    assert first[-bar:].max() > 150  # text on a dark bar
    with Image.open(tmp_path / clip.strip) as strip:
        drawn = np.array(strip.convert("RGB")).astype(int)
    side = (drawn.shape[1] - 5 * 6) // 6  # six frames and the gaps between them
    above, below = drawn[:24], drawn[side + 30 :]
    assert (above.max(axis=(1, 2)) > 200).any(), "the instruction"
    columns = [below[:, n * (side + 6) : n * (side + 6) + side] for n in range(6)]
    assert all((column.max(axis=(1, 2)) > 200).any() for column in columns), "what is said of each moment"
    red = [(column[..., 0] - column[..., 2] > 100).any() for column in columns]
    assert red == [False] * 5 + [True], "the failure, in its colour, at the end alone"


def test_a_film_shows_what_is_told_and_said_in_either_language(tmp_path, make_record):
    """What is burnt in differs with the words, in the film's frames and in the strip."""
    env = suite_named("tabletop-demo").make(render_mode="rgb_array", disable_env_checker=True)

    def bars(instruction: str, said: str, success: bool) -> tuple[bytes, bytes, bytes]:
        record = make_record("push", 0, success=success, steps=1, instruction=instruction)

        def episode(on_step, on_say):
            env.reset(seed=1, options={"task": "push"})
            on_step()
            on_say(said)
            env.step(np.zeros(env.action_space.shape or ()))
            on_step()
            return record

        clip = film(env, episode, tmp_path)
        with Image.open(tmp_path / clip.film) as shown, Image.open(tmp_path / clip.strip) as strip:
            first = np.array(shown.convert("RGB"))[shown.width :]
            shown.seek(1)
            return first.tobytes(), np.array(shown.convert("RGB"))[shown.width :].tobytes(), strip.tobytes()

    plain = bars("lift the red cube", "move above the red cube", True)
    for other in (("拿起红色方块", "move above the red cube", True), ("拿起蓝色方块", "move above the red cube", True)):
        assert all(one != two for one, two in zip(plain, bars(*other), strict=True))
    assert bars("拿起红色方块", "", True) != bars("拿起蓝色方块", "", True), "no box in place of the letters"
    said = bars("lift the red cube", "移到红色方块上方", True)
    assert said[0] != plain[0] and said[2] != plain[2]
    failed = bars("lift the red cube", "move above the red cube", False)
    assert failed[1] != plain[1] and failed[2] != plain[2]


def test_nothing_filmed_is_an_empty_list(tmp_path):
    assert read_index(tmp_path) == []
