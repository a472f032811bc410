"""The choice of a renderer: what is tried, what is refused, and that a choice already made stands."""

import os

import pytest

from deixis.envs import rendering_backend
from deixis.envs.rendering_backend import INSTALL_COMMAND, RenderingError, select_backend, usable_backend


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MUJOCO_GL", os.environ.get("MUJOCO_GL", ""))  # restored after the test, whatever it sets
    usable_backend.cache_clear()
    yield
    usable_backend.cache_clear()


def test_the_chosen_backend_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUJOCO_GL")
    assert select_backend() in rendering_backend.LIBRARIES
    assert os.environ["MUJOCO_GL"] == select_backend()


def test_a_choice_of_the_user_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    assert select_backend() == "glfw"


def test_without_a_renderer_the_message_holds_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = dict.fromkeys(rendering_backend.LIBRARIES, ("libabsent.so.1",))
    monkeypatch.setattr(rendering_backend, "LIBRARIES", absent)
    monkeypatch.delenv("MUJOCO_GL")
    with pytest.raises(RenderingError, match=INSTALL_COMMAND):
        select_backend()
    assert "MUJOCO_GL" not in os.environ


def test_a_library_that_loads_but_cannot_draw_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering_backend, "LIBRARIES", {"nonsense": ("libc.so.6",)})
    assert rendering_backend.loads("nonsense")
    assert not rendering_backend.draws("nonsense")
    with pytest.raises(RenderingError):
        usable_backend()
