"""Frames a second that features are extracted at, beside the backbone's bare forward pass over the same frames."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

EPISODES, TURNS = 60, 5


def run(policy: str | None = None) -> dict[str, float]:
    """Both in turns, several times over, on one thread; demonstrations of the suite "tabletop-demo".

    policy: folder of one for that suite; None makes one of the demo's size that nothing trained.

    Metrics: `bare_frames_per_s`, the pass alone with all frames in memory; `extract_frames_per_s`, which reads them
    from the store, reads every layer, pools, and writes what it finds to disk; `extract_vs_bare`, the median of their
    ratios turn by turn; `frames`; `bytes_per_frame` of features.

    Raises ValueError or FileNotFoundError where the policy cannot be read, does not see, or does not fit.
    """
    import torch

    from ...envs.collect import collect
    from ...envs.config import CollectConfig
    from ..probe.config import ProbeConfig
    from ..probe.features import extract
    from ..probe.frames import Frames
    from ..probe.sources import PolicySource
    from ._untrained import policy_or_untrained

    torch.set_num_threads(1)
    source = PolicySource(policy_or_untrained(policy, ("lift the red cube",)), policy or "untrained")
    size = next(iter(source.policy.cameras.values()))[0]
    with TemporaryDirectory(prefix="deixis-bench-") as folder:
        root = Path(folder)
        config = CollectConfig(suite="tabletop-demo", episodes=EPISODES, image_size=size, workers=1)
        frames = Frames(collect(config, root / "store.zarr", seed=0), source.cameras, ProbeConfig(every=1))
        batches = list(frames.batches())

        def bare() -> float:
            begin = time.perf_counter()
            with torch.inference_mode():
                for batch in batches:
                    source.hear(source.look(batch), batch, batch.texts)
            return time.perf_counter() - begin

        bare()  # warm from here on
        frames.digest  # noqa: B018  (read once, as in a check)
        taken = []
        for turn in range(TURNS):
            pair = {}
            for name in ("bare", "extract") if turn % 2 else ("extract", "bare"):
                if name == "bare":
                    pair[name] = bare()
                else:
                    pair[name] = extract(source, frames, root / str(turn)).seconds or 0.0
            taken.append(pair)
        kept = sum(file.stat().st_size for file in (root / "0").rglob("*.npy"))
    return {
        "bare_frames_per_s": len(frames) / statistics.median(pair["bare"] for pair in taken),
        "extract_frames_per_s": len(frames) / statistics.median(pair["extract"] for pair in taken),
        "extract_vs_bare": statistics.median(pair["bare"] / pair["extract"] for pair in taken),
        "frames": len(frames),
        "bytes_per_frame": kept / len(frames),
    }
