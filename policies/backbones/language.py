"""Backbones that are language models: images, proprioception and instruction are one sequence, read in one pass."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...datasets.documents import DESCRIBE
from ...datasets.language import language_of
from ..config import BackboneConfig, BridgeConfig
from ..interfaces import SeeingBackbone, TokenGroup
from .decoder import Decoder, DecoderReader
from .packing import Packed, pack, packed_mask
from .tokenizer import TextTokenizer

COMPARED_IMAGES, COMPARED_TEXTS = 16, 24  # at a time: 24 texts are about 500 tokens


@dataclass(frozen=True)
class TokenIds:
    """Texts as the decoder reads them: ids [B, L] and mask bool [B, L]."""

    ids: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return len(self.mask)

    def select(self, rows: Tensor) -> TokenIds:
        return TokenIds(self.ids[rows], self.mask[rows])


class Joints(nn.Module):
    """What enters the decoder beside image and text, and what leaves it for the head."""

    def __init__(
        self, config: BackboneConfig, cameras: int, obs_horizon: int, proprio_dim: int, decoder_width: int
    ) -> None:
        super().__init__()
        self.view = nn.Parameter(torch.randn(obs_horizon, cameras, 1, decoder_width) * 0.02)
        self.proprio_in = nn.Linear(proprio_dim, decoder_width)
        self.readouts = nn.Parameter(torch.randn(config.decoder.readouts, decoder_width) * 0.02)
        self.out = nn.Linear(decoder_width, config.width)
        self.proprio_out = nn.Linear(proprio_dim, config.width)
        self.types = nn.Parameter(torch.randn(obs_horizon + config.decoder.readouts, config.width) * 0.1)


class LanguageBackbone(SeeingBackbone):
    """The sequence is [image tokens of each step and camera][proprioception of each step][instruction][readouts].

    What the head sees are the decoder's states at the readouts, and proprioception itself: a number that has to be
    exact should not have to pass through attention.

    Args:
        config: sizes.
        cameras: name -> (height, width), in the order of the tokens.
        proprio_dim: P.
        obs_horizon: To.
        tokenizer: of instructions.
        entries: of the vocabulary, those beyond the tokenizer's included.
        bridge: between pictures and decoder, where there is one.

    Attributes:
        eyes: the part that is perception.
        looks: whether image tokens are looked at by gated layers, and are not part of the sequence.
    """

    eyes: str

    def __init__(
        self,
        config: BackboneConfig,
        cameras: Mapping[str, tuple[int, int]],
        proprio_dim: int,
        obs_horizon: int,
        tokenizer: TextTokenizer,
        entries: int,
        bridge: BridgeConfig | None = None,
    ) -> None:
        super().__init__()
        self.perception = (self.eyes,)
        self.looks = bridge is not None and bridge.kind == "cross_attention"
        self.cameras, self.obs_horizon, self.tokenizer = tuple(cameras), obs_horizon, tokenizer
        self.decoder = Decoder(config.decoder, entries, bridge)
        self.projector = Joints(config, len(cameras), obs_horizon, proprio_dim, self.decoder.width)
        self.width, self.num_tokens = config.width, obs_horizon + config.decoder.readouts
        self.reader_width = self.decoder.width

    @property
    def parts(self) -> dict[str, nn.Module]:
        own = {"decoder": self.decoder, "projector": self.projector}
        adapter = self.decoder.adapter
        return own if adapter is None else {**own, "adapter": adapter}

    def encode_frames(
        self, images: Mapping[str, Tensor], texts: TokenIds | None = None, proprio: Tensor | None = None
    ) -> Tensor:
        """Neither text nor proprioception changes them; see `SeeingBackbone.encode_frames`."""
        raise NotImplementedError

    def enter(self, frames: Tensor) -> Tensor:
        """Encoded pictures [N, P, ...] as decoder tokens [N, M, width]."""
        raise NotImplementedError

    def spell(self, frames: Tensor) -> tuple[Tensor, Tensor] | None:
        """Encoded instants [B, cameras, P, ...] as entries of the vocabulary, where they are any: ids [B, S] of the S
        tokens they take, and which of these can be predicted, bool [B, S]."""
        return None

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def encode_text(self, texts: Sequence[str]) -> TokenIds:
        ids, mask = self.tokenizer(texts)
        return TokenIds(ids.to(self.device), mask.to(self.device))

    def assemble(self, frames: Tensor, proprio: Tensor, texts: TokenIds) -> TokenGroup:
        batch, joints = len(proprio), self.projector
        with self._autocast():
            steps = joints.proprio_in(proprio)
            words = self.decoder.embed(texts.ids)
            readouts = joints.readouts.to(words.dtype).expand(batch, -1, -1)
            embedded, seen = self._begin(frames, torch.cat([steps.to(words.dtype), words, readouts], dim=1))
            kept = texts.mask.new_ones(batch, embedded.shape[1] - words.shape[1] - readouts.shape[1])
            mask = torch.cat([kept, texts.mask, texts.mask.new_ones(readouts.shape[:2])], dim=1)
            cache = self.decoder.new_cache(batch) if self.lends else None
            states = self.decoder(embedded, mask, seen, cache=cache)
            read = joints.out(states[:, -readouts.shape[1] :])
        tokens = torch.cat([read.float(), joints.proprio_out(proprio)], dim=1) + joints.types
        reader = DecoderReader(self.decoder, cache, mask, seen, self.bf16) if self.lends else None
        return TokenGroup(tokens, tokens.new_ones(tokens.shape[:2], dtype=torch.bool), reader)

    def read(self, frames: Tensor, packed: Packed, whole: bool = False) -> Tensor:
        """Logits [B, L, V] of packed documents about single instants [B, cameras, P, ...]; whole: the S tokens that
        these take, before them, too.

        The instant stands where the last step of a window stands.
        """
        with self._autocast():
            words = self.decoder.embed(packed.ids)
            embedded, seen = self._begin(frames[:, None], words)
            prefix = embedded.shape[1] - words.shape[1]
            first = torch.arange(prefix, device=words.device).expand(len(words), -1)
            positions = torch.cat([first, prefix + packed.position], dim=1)
            states = self.decoder(embedded, packed_mask(prefix, packed), seen, positions)
            return self.decoder.logits(states if whole else states[:, prefix:]).float()

    @torch.inference_mode()
    def answer(self, images: Mapping[str, Tensor], prompts: Sequence[str], longest: int = 48) -> list[str]:
        """What the language model says after each prompt about single instants {camera: [F, H, W, 3]}: F texts.

        The likeliest token every time, at most `longest` of them.
        """
        tokenizer = self.tokenizer
        rows = [torch.tensor([tokenizer.start, *tokenizer.words(prompt)]) for prompt in prompts]
        lengths = torch.tensor([len(row) for row in rows], device=self.device)
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(self.device)
        given = torch.arange(ids.shape[1], device=self.device) < lengths[:, None]
        with self._autocast():
            frames = self.encode_frames({camera: x.to(self.device) for camera, x in images.items()})
            words = self.decoder.embed(ids)
            embedded, seen = self._begin(frames[:, None], words)
            before = embedded.shape[1] - words.shape[1]
            mask = torch.cat([given.new_ones(len(rows), before), given], dim=1)
            cache = self.decoder.new_cache(len(rows))
            states = self.decoder(embedded, mask, seen, cache=cache).float()
        reader = DecoderReader(self.decoder, cache, mask, seen, self.bf16)
        state = states[torch.arange(len(rows), device=self.device), before + lengths - 1]
        said = []
        for _ in range(longest):
            logits = self.decoder.logits(state)[:, : tokenizer.size]  # words, no parts of pictures
            said.append(logits.argmax(-1))
            if torch.stack(said).eq(tokenizer.end).any(0).all():
                break
            states, reader = reader.read_on(self.decoder.embed(said[-1][:, None]), causal=True)
            state = states[:, 0]
        texts = torch.stack(said, dim=1).tolist()
        return [tokenizer.decode(text[: text.index(end)] if (end := tokenizer.end) in text else text) for text in texts]

    @torch.inference_mode()
    def compare(self, images: Mapping[str, Tensor], texts: Sequence[str]) -> Tensor:
        """log p(text | image) - log mean_j p(text | image j) over the given images, as descriptions of them: [F, T].

        What is likely whatever the image says nothing about it, so it is taken off.
        """
        tokenizer = self.tokenizer
        frames = self.encode_frames({camera: x.to(self.device) for camera, x in images.items()})
        asked = {name: [tokenizer.start, *tokenizer.words(prompts[0])] for name, prompts in DESCRIBE.items()}
        documents = [(asked[language_of(text)], [*tokenizer.words(text), tokenizer.end]) for text in texts]
        columns = []
        for start in range(0, len(documents), COMPARED_TEXTS):
            some = documents[start : start + COMPARED_TEXTS]
            rows = [
                self._log_likelihood(part, pack([some] * len(part)).to(self.device), len(some))
                for part in frames.split(COMPARED_IMAGES)
            ]
            columns.append(torch.cat(rows))
        scores = torch.cat(columns, dim=1)
        return scores - (scores.logsumexp(0) - math.log(len(scores)))

    def _log_likelihood(self, frames: Tensor, packed: Packed, documents: int) -> Tensor:
        """log p of what is said in each document [B, documents]."""
        logits = self.read(frames, packed)[:, :-1]
        ids, said = packed.ids[:, 1:], packed.said[:, 1:]
        each = -F.cross_entropy(logits.transpose(1, 2), ids, reduction="none").masked_fill(~said, 0.0)
        return each.new_zeros(len(frames), documents).scatter_add_(1, packed.document[:, 1:].clamp_min(0), each)

    def _begin(self, frames: Tensor, rest: Tensor) -> tuple[Tensor, Tensor | None]:
        """The sequence of encoded frames [B, T, cameras, P, ...], the last T steps, and the rest [B, L, width].

        Where gated layers look at the frames, the sequence is the rest alone, and beside it is what they look at.
        """
        crossed = self.enter(frames.flatten(0, 2)).unflatten(0, frames.shape[:3])
        seen = (crossed + self.projector.view[-frames.shape[1] :]).flatten(1, 3)
        return (rest, seen) if self.looks else (torch.cat([seen.to(rest.dtype), rest], dim=1), None)
