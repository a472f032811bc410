"""What a network's layers do while it trains: how large their outputs, attention logits and gradients are."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..backbones.text import AttentionLogits
from ..config import StabilityConfig
from .stability import Alarm

OUTPUT, LOGIT, GRADIENT, USE = "output", "attention_logit", "gradient", "codebook_use"
PATIENCE, WARM = 2, 10  # looks, of which there are fewer than steps
LARGEST_LOGIT = 1e4  # beyond which trainings diverge (Wortsman et al. 2023, arXiv:2309.14322); fp16 ends at 65,504


class Monitors:
    """Numbers by layer, a layer being an item of a `ModuleList`. They are taken on some steps only, as they cost time.

    Args:
        parts: name -> module, all that is watched.
        config: how often, and what is far from usual.

    Attributes:
        values: what the last look found, `KIND.LAYER` -> number.
    """

    def __init__(self, parts: Mapping[str, nn.Module], config: StabilityConfig) -> None:
        self.config = config
        self.alarms: dict[str, Alarm] = {}
        self.beyond: set[str] = set()
        self.layers: dict[str, nn.Module] = {}
        self.attentions: dict[str, nn.Module] = {}
        self.codebooks: dict[str, nn.Module] = {}
        for part, whole in parts.items():
            for path, module in whole.named_modules():
                name = f"{part}.{path}" if path else part
                if isinstance(module, nn.ModuleList):
                    self.layers |= {f"{name}.{key}": item for key, item in module.named_children()}
                if isinstance(module, AttentionLogits) or type(module).__name__.endswith("Attention"):
                    self.attentions[name] = module
                if hasattr(module, "perplexity"):
                    self.codebooks[name] = module
        self.values: dict[str, float] = {}

    def due(self, step: int) -> bool:
        """Whether this step is to be looked at."""
        every = self.config.monitor_every
        return bool(every) and step % every == 0

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Within, forward passes are measured."""
        self.values = {}
        hooks = [
            *(layer.register_forward_hook(self._output(name)) for name, layer in self.layers.items()),
            *(
                module.register_forward_hook(self._logits(name))
                for name, module in self.attentions.items()
                if isinstance(module, AttentionLogits)
            ),
        ]
        names = {id(module): name for name, module in self.attentions.items()}
        try:
            with _watched_attention(lambda module, logits: self._largest(names.get(id(module)), logits)):
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def read(self) -> list[str]:
        """After the backward pass: take in gradients and codebooks too; what is out of the ordinary, in words.

        Each layer has an alarm of its own, which sounds once and then only after it has been quiet. Attention logits
        have a limit, too: they can grow so steadily that it becomes usual.
        """
        for name, layer in self.layers.items():
            found = [p.grad for p in layer.parameters() if p.grad is not None]
            if found:
                self.values[f"{GRADIENT}.{name}"] = float(nn.utils.get_total_norm(found))
        for name, module in self.codebooks.items():
            self.values[f"{USE}.{name}"] = float(torch.as_tensor(module.perplexity).mean())
        told = []
        for name, value in self.values.items():
            if name.startswith(USE):
                continue
            alarm = self.alarms.setdefault(name, Alarm(name, self.config.tolerance, PATIENCE, WARM))
            was_far = alarm.far >= PATIENCE
            trouble = alarm(value)
            if trouble and not was_far:
                told.append(trouble)
        beyond = {name for name, value in self.values.items() if name.startswith(LOGIT) and value > LARGEST_LOGIT}
        told += [
            f"{name} is {self.values[name]:.3g}: beyond {LARGEST_LOGIT:g} attention hardly learns, and half precision "
            "overflows soon; lower the learning rate, or normalise queries and keys"
            for name in sorted(beyond - self.beyond)
        ]
        self.beyond = beyond
        return told

    def _output(self, name: str) -> Any:
        def hook(_module: nn.Module, _arguments: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple) else output
            if isinstance(first, Tensor) and first.is_floating_point():
                self.values[f"{OUTPUT}.{name}"] = float(first.detach().float().square().mean().sqrt())

        return hook

    def _logits(self, name: str) -> Any:
        def hook(_module: nn.Module, _arguments: Any, output: Tensor) -> None:
            self._largest(name.rpartition(".")[0], output)

        return hook

    def _largest(self, name: str | None, logits: Tensor) -> None:
        if name is not None:
            key = f"{LOGIT}.{name}"
            self.values[key] = max(self.values.get(key, 0.0), float(logits.detach().abs().max()))


@contextmanager
def _watched_attention(tell: Any) -> Iterator[None]:
    """Within, attention of transformers' models, fused or plain, tells its logits."""
    if "transformers" not in sys.modules:
        yield
        return
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    def watch(module: Any, query: Tensor, key: Tensor, attention_mask: Tensor | None, options: Any) -> None:
        with torch.no_grad():
            groups = query.shape[1] // key.shape[1]
            scaling = options.get("scaling") or query.shape[-1] ** -0.5
            logits = query.float() @ key.float().repeat_interleave(groups, 1).transpose(-2, -1) * scaling
            if attention_mask is not None:
                seen = attention_mask if attention_mask.dtype == torch.bool else attention_mask >= 0
                logits = logits.masked_fill(~seen[..., : logits.shape[-1]], 0.0)
            tell(module, logits)

    def fused(
        module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
    ) -> Any:  # some models give the mask by its name
        watch(module, query, key, attention_mask, options)
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)

    def plain(
        module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
    ) -> Any:
        watch(module, query, key, attention_mask, options)
        own = sys.modules[type(module).__module__].eager_attention_forward  # every model of transformers has its own
        return own(module, query, key, value, attention_mask, **options)

    ALL_ATTENTION_FUNCTIONS["sdpa"], ALL_ATTENTION_FUNCTIONS["eager"] = fused, plain
    try:
        yield
    finally:
        del ALL_ATTENTION_FUNCTIONS["sdpa"], ALL_ATTENTION_FUNCTIONS["eager"]
