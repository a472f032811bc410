"""A causal language model as part of a policy: it reads embeddings of any modality and predicts the next token."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..config import BridgeConfig, DecoderConfig

_LORA = re.compile(r"\.lora_[AB]$")
_ADDED = re.compile(r"\.lora_|\.look\.")
_PLAIN = re.compile(
    r"\.base_layer|(?<=\.layers\.\d)\.layer|(?<=\.layers\.\d\d)\.layer"
)  # names before anything was added


class GatedLayer(nn.Module):
    """A gated look at the image before a layer of the decoder (Llama 3, arXiv:2407.21783; Flamingo).

    With the gates at zero, where they start, the layer's output is exactly what it was without.
    """

    def __init__(self, look: nn.Module, layer: nn.Module) -> None:
        super().__init__()
        self.look, self.layer = look, layer

    def forward(self, hidden_states: Tensor, *arguments: Any, seen: Tensor | None = None, **options: Any) -> Any:
        if seen is not None:
            hidden_states = self.look(
                hidden_states,
                cross_attention_states=seen,
                cross_attention_mask=None,
                attention_mask=None,
                full_text_row_masked_out_mask=None,
            )
        return self.layer(hidden_states, *arguments, **options)


class Prefix(nn.Module):
    """Learned keys and values that every token of every layer sees (Li and Liang 2021, arXiv:2101.00190).

    Args:
        config: of the language model.
        length: keys and values a layer.
    """

    def __init__(self, config: Any, length: int) -> None:
        super().__init__()
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        self.length = length
        self.values = nn.Parameter(torch.randn(config.num_hidden_layers, 2, heads, length, width) * 0.02)

    def cache(self, batch: int) -> Any:
        """As transformers keeps what has been read, for `batch` sequences."""
        from transformers import DynamicCache

        cache = DynamicCache()
        for layer, (key, value) in enumerate(self.values):
            cache.update(key.expand(batch, -1, -1, -1), value.expand(batch, -1, -1, -1), layer)
        return cache


class Decoder(nn.Module):
    """A causal language model of transformers.

    Args:
        config: sizes, or the architecture of what was loaded.
        vocabulary: entries of its tokenizer.
        bridge: where it says so, gated layers look at image tokens.

    Attributes:
        width: of its states.
        heads: attention heads.
    """

    def __init__(self, config: DecoderConfig, vocabulary: int, bridge: BridgeConfig | None = None) -> None:
        from transformers import AutoConfig, AutoModelForCausalLM, Qwen3Config

        super().__init__()
        if config.architecture:
            values = json.loads(config.architecture)
            options = AutoConfig.for_model(values.pop("model_type"), **values)
        else:
            if config.width % config.heads:
                raise ValueError(
                    f"policy.backbone.decoder.heads: found {config.heads}, wanted a divisor of {config.width}"
                )
            options = Qwen3Config(
                vocab_size=vocabulary,
                hidden_size=config.width,
                intermediate_size=round(config.hidden * config.width),
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                num_key_value_heads=config.heads,
                head_dim=config.width // config.heads,
                tie_word_embeddings=True,
                use_cache=False,
            )
        # On a CPU, plain products and a softmax train 1.6 times as fast as the fused attention, whose backward pass is
        # slow there where there is a mask.
        fused = torch.cuda.is_available()
        self.model = AutoModelForCausalLM.from_config(options, attn_implementation="sdpa" if fused else "eager")
        if not (config.query_key_norm or config.architecture):
            for layer in self.model.base_model.layers:
                layer.self_attn.q_norm = layer.self_attn.k_norm = nn.Identity()
        if self.model.get_input_embeddings().num_embeddings != vocabulary:
            self.model.resize_token_embeddings(vocabulary, mean_resizing=False)
        self.width, self.heads = options.hidden_size, options.num_attention_heads
        if min(config.lora, config.prefix) < 0:
            raise ValueError(
                f"policy.backbone.decoder: found lora {config.lora}, prefix {config.prefix}, wanted at least 0"
            )
        if config.lora:
            self._add_lora(config.lora)
        if bridge is not None and bridge.kind == "cross_attention":
            self._add_looks(bridge.every)
        self.prefix = Prefix(options, config.prefix) if config.prefix else None

    @property
    def adapter(self) -> nn.ModuleList | None:
        """What adapts the language model without being part of it; None where nothing does."""
        added = [module for name, module in self.model.named_modules() if _LORA.search(name)]
        added += [] if self.prefix is None else [self.prefix]
        return nn.ModuleList(added) if added else None

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take the language model's own weights, as `state_dict` of its class names them; what was added stays.

        Raises:
            ValueError: a weight is missing, or has another shape.
        """
        own = {
            _PLAIN.sub("", name): value for name, value in self.model.state_dict().items() if not _ADDED.search(name)
        }
        for name, value in own.items():
            if name not in weights or weights[name].shape != value.shape:
                found = list(weights[name].shape) if name in weights else "nothing"
                raise ValueError(f"language model: {name}: found {found}, wanted {list(value.shape)}")
            with torch.no_grad():
                value.copy_(weights[name])

    def _add_lora(self, rank: int) -> None:
        from peft import LoraConfig, inject_adapter_in_model

        inner = self.model.base_model
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear"), inner)
        inner.requires_grad_(True)  # a stage says what is frozen

    def _add_looks(self, every: int) -> None:
        from transformers.models.mllama.configuration_mllama import MllamaTextConfig
        from transformers.models.mllama.modeling_mllama import MllamaCrossAttentionDecoderLayer

        inner, options = self.model.base_model, self.model.config
        sizes = MllamaTextConfig(
            hidden_size=self.width,
            intermediate_size=options.intermediate_size,
            num_attention_heads=self.heads,
            num_key_value_heads=self.heads,
            num_hidden_layers=1,
            cross_attention_layers=[0],
            rms_norm_eps=1e-6,
        )
        sizes._attn_implementation = "sdpa"
        for index in range(0, len(inner.layers), every):
            look = MllamaCrossAttentionDecoderLayer(sizes, index)
            # Taken for causal where it says nothing: word i would see image token i at most.
            look.cross_attn.is_causal = False  # pyright: ignore
            for module in look.modules():
                if isinstance(module, nn.Linear):
                    nn.init.normal_(module.weight, std=sizes.initializer_range)
            inner.layers[index] = GatedLayer(look, inner.layers[index])

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids [B, L] to embeddings [B, L, width]."""
        return self.model.get_input_embeddings()(ids)

    def forward(
        self,
        embedded: Tensor,
        mask: Tensor,
        seen: Tensor | None = None,
        positions: Tensor | None = None,
        cache: Any = None,
    ) -> Tensor:
        """States [B, L, width] of embeddings [B, L, width].

        Args:
            embedded: one for each token.
            mask: bool [B, L], where each token sees those up to it that are kept; or [B, L, S + L], who sees whom.
            seen: image tokens [B, S, width] for gated layers.
            positions: int64 [B, L]; without them, they count what the mask keeps, so that padding in between changes
                nothing.
            cache: of S tokens read before (`new_cache`); these are added to it.
        """
        if positions is None:
            positions = (mask.cumsum(-1) - 1).clamp_min(0)
        options: dict[str, Any] = {} if seen is None else {"seen": seen}
        if cache is None and self.prefix is not None:
            cache = self.new_cache(len(mask))
        if cache is not None:
            options["past_key_values"] = cache
        if self.prefix is not None:
            mask = torch.cat([mask.new_ones(*mask.shape[:-1], self.prefix.length), mask], dim=-1)
        return self.model.base_model(
            inputs_embeds=embedded,
            attention_mask=mask if mask.ndim == 2 else _added(mask, embedded.dtype)[:, None],
            position_ids=positions,
            use_cache=False,
            **options,
        ).last_hidden_state

    def new_cache(self, batch: int) -> Any:
        """For `batch` sequences that nothing has been read of yet."""
        from transformers import DynamicCache

        return DynamicCache() if self.prefix is None else self.prefix.cache(batch)

    def logits(self, states: Tensor) -> Tensor:
        """Logits over the vocabulary [..., V] of the token after each state [..., width]."""
        return self.model.get_output_embeddings()(states)


def _added(sees: Tensor, dtype: torch.dtype) -> Tensor:
    """Who sees whom as what is added to attention logits: plain attention takes no booleans."""
    return torch.zeros(sees.shape, dtype=dtype, device=sees.device).masked_fill(~sees, torch.finfo(dtype).min)


@dataclass(frozen=True)
class DecoderReader:
    """A decoder that has read S tokens of B sequences, and can read on (`interfaces.Reader`).

    Attributes:
        decoder: which.
        cache: what it has read.
        mask: which of the S are no padding, bool [B, S].
        seen: image tokens for gated layers.
        bf16: read under bf16 autocast.
    """

    decoder: Decoder
    cache: Any
    mask: Tensor
    seen: Tensor | None = None
    bf16: bool = False

    def read_on(self, embedded: Tensor, causal: bool) -> tuple[Tensor, DecoderReader]:
        """See `interfaces.Reader`; states are float32."""
        batch, length = embedded.shape[:2]
        among = self.mask.new_ones(length, length)
        among = (among.tril() if causal else among).expand(batch, -1, -1)
        whom = torch.cat([self.mask[:, None].expand(-1, length, -1), among], dim=-1)
        positions = self.mask.sum(-1, keepdim=True) + torch.arange(length, device=embedded.device)
        cache = copy.copy(self.cache)
        cache.layers = [copy.copy(layer) for layer in cache.layers]  # a layer's tensors are replaced, never written to
        with torch.autocast(embedded.device.type, torch.bfloat16, enabled=self.bf16):
            states = self.decoder(embedded, whom, self.seen, positions, cache)
        mask = torch.cat([self.mask, self.mask.new_ones(batch, length)], dim=1)
        return states.float(), replace(self, cache=cache, mask=mask)
