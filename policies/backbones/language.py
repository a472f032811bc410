"""Backbones that are language models: images, proprioception and instruction are one sequence, read in one pass."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...datasets.documents import DESCRIBE
from ...datasets.language import language_of
from ..config import BackboneConfig, BridgeConfig
from ..interfaces import SeeingBackbone, TokenGroup
from .decoder import Decoder, DecoderReader
from .grounding import GroundedViews
from .packing import Packed, pack, packed_mask
from .projector import FrameProjector, StandardisedLinear
from .text import ROLES
from .tokenizer import TextTokenizer

COMPARED_IMAGES, COMPARED_TEXTS = 16, 24  # at a time: 24 texts are about 500 tokens
STATE = -1  # what is no word, in a document: the state of the robot, ...
POINTERS = tuple(range(-2, -2 - len(ROLES), -1))  # ... the pointer of each role, ...
READOUTS = -2 - len(ROLES)  # ... and, from here down, the readouts


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
    """What enters the decoder beside the tokens of images and text.

    Attributes:
        view: which camera a token is of.
        pointers: learned tokens after a text, one for each role: their states are what is looked for in the views.
        readouts: learned tokens at the end, whose states the head sees.
    """

    def __init__(self, width: int, cameras: int, proprio_dim: int, readouts: int) -> None:
        super().__init__()
        self.view = nn.Parameter(torch.randn(cameras, 1, width) * 0.02)
        self.proprio = nn.Linear(proprio_dim, width)
        self.pointers = nn.Parameter(torch.randn(len(ROLES), width) * 0.02)
        self.readouts = nn.Parameter(torch.randn(readouts, width) * 0.02)


class StatesProjector(FrameProjector):
    """Encoded instants, the states at the readouts included, and proprioception to tokens with type embeddings."""

    def __init__(
        self,
        config: BackboneConfig,
        cameras: int,
        channels: int,
        states_width: int,
        obs_horizon: int,
        proprio_dim: int,
    ) -> None:
        super().__init__(config, cameras, channels, obs_horizon, proprio_dim)
        self.read_shape = (config.decoder.readouts, states_width)
        self.states = StandardisedLinear(states_width, config.width)
        tokens = obs_horizon * (self.per_step + config.decoder.readouts)
        self.types = nn.Parameter(torch.randn(tokens, config.width) * 0.1)

    @property
    def _layers(self) -> list[StandardisedLinear]:
        return [*super()._layers, self.states]

    @property
    def _split(self) -> list[int]:
        return [*super()._split, math.prod(self.read_shape)]

    def forward(self, frames: Tensor, proprio: Tensor) -> Tensor:
        """Tokens [B, N, D] of encoded instants [B, To, F] and proprio [B, To, P]."""
        read = self.states(frames[..., -math.prod(self.read_shape) :].unflatten(-1, self.read_shape))
        return torch.cat([*self.of_steps(frames, proprio), read], dim=2).flatten(1, 2) + self.types


class LanguageBackbone(SeeingBackbone):
    """The sequence of an instant is [image tokens of each camera][proprioception][instruction][pointers][readouts].

    The states at the pointers are compared with every place of the pictures, as phrases are in the modular route: the
    language model says what to look at, and a heat map where that is, more exactly than words can. The head sees what
    is there and where, the states at the readouts, and proprioception itself: numbers that have to be exact should not
    have to pass through attention.

    Args:
        config: sizes.
        cameras: name -> (height, width), in the order of the tokens.
        proprio_dim: P.
        obs_horizon: To.
        tokenizer: of instructions.
        entries: of the vocabulary, those beyond the tokenizer's included.
        grid: (rows, columns) of a picture's tokens.
        channels: of their features (`views`); 0 where these are as wide as the decoder.
        bridge: between pictures and decoder, where there is one.

    Attributes:
        eyes: the part that is perception.
        looks: whether image tokens are looked at by gated layers, and are not part of the sequence.
        reads_ahead: whether `encode_frames` includes the language model, all of it frozen; otherwise `assemble` does.
    """

    eyes: str
    reads_ahead: bool = False

    def __init__(
        self,
        config: BackboneConfig,
        cameras: Mapping[str, tuple[int, int]],
        proprio_dim: int,
        obs_horizon: int,
        tokenizer: TextTokenizer,
        entries: int,
        grid: tuple[int, int],
        channels: int = 0,
        bridge: BridgeConfig | None = None,
    ) -> None:
        super().__init__()
        self.looks = bridge is not None and bridge.kind == "cross_attention"
        self.cameras, self.obs_horizon, self.tokenizer, self.grid = tuple(cameras), obs_horizon, tokenizer, grid
        self.decoder = Decoder(config.decoder, entries, bridge)
        words = self.decoder.width
        self.grids, channels = [grid] * len(cameras), channels or words
        self.grounding = GroundedViews(config, self.grids, channels, words, proprio_dim)
        self.joints = Joints(words, len(cameras), proprio_dim, config.decoder.readouts)
        self.projector = StatesProjector(config, len(cameras), channels, words, obs_horizon, proprio_dim)
        self.width, self.num_tokens = config.width, len(self.projector.types)
        self.reader_width = words

    @property
    def parts(self) -> dict[str, nn.Module]:
        own = {"decoder": self.decoder, "joints": self.joints}
        own |= {"grounding": self.grounding, "projector": self.projector}
        adapter = self.decoder.adapter
        return own if adapter is None else {**own, "adapter": adapter}

    @property
    def perception(self) -> tuple[str, ...]:
        if not self.reads_ahead:
            return (self.eyes,)
        return tuple(part for part in self.parts if part != "projector")

    def prepare(self, trained: Collection[str]) -> None:
        """What is read of an instant can be kept where nothing that reads it is trained, nor reads on after it."""
        self.reads_ahead = not self.lends and not set(trained) & (self.parts.keys() - {"projector"})

    def standardise(self, frames: Tensor) -> None:
        if self.reads_ahead:
            self.projector.standardise(frames)

    def set_noise(self, deviation: float) -> None:
        self.projector.set_noise(deviation)

    def look(self, images: Mapping[str, Tensor]) -> Tensor:
        """Single instants {camera: [F, H, W, 3]} as what the eyes see of them [F, cameras, P, ...]."""
        raise NotImplementedError

    def views(self, seen: Tensor, states: Tensor) -> list[Tensor]:
        """Features of each camera [N, h, w, C], of instants as the eyes see them [N, cameras, P, ...] and the decoder's
        states at the S tokens that these take [N, S, width]."""
        raise NotImplementedError

    def enter(self, seen: Tensor) -> Tensor:
        """Pictures as the eyes see them [N, P, ...] as decoder tokens [N, M, width]."""
        raise NotImplementedError

    def spell(self, seen: Tensor) -> tuple[Tensor, Tensor] | None:
        """Instants as the eyes see them [B, cameras, P, ...] as entries of the vocabulary, where they are any: ids
        [B, S] of the S tokens they take, and which of these can be predicted, bool [B, S]."""
        return None

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def encode_text(self, texts: Sequence[str]) -> TokenIds:
        ids, mask = self.tokenizer(texts)
        return TokenIds(ids.to(self.device), mask.to(self.device))

    def encode_frames(self, images: Mapping[str, Tensor], texts: TokenIds, proprio: Tensor) -> Tensor:
        seen = self.look(images)
        return self.understand(seen, proprio, texts)[0] if self.reads_ahead else seen

    def assemble(self, frames: Tensor, proprio: Tensor, texts: TokenIds) -> TokenGroup:
        reader = None
        if not self.reads_ahead:
            batch, steps = frames.shape[:2]
            rows = torch.arange(batch, device=self.device)
            past = rows.repeat_interleave(steps - 1)
            last, reader = self.understand(frames[:, -1], proprio[:, -1], texts, self.lends)
            known = [last[:, None]]
            if steps > 1:
                before, _ = self.understand(
                    frames[:, :-1].flatten(0, 1), proprio[:, :-1].flatten(0, 1), texts.select(past)
                )
                known.insert(0, before.unflatten(0, (batch, steps - 1)))
            frames = torch.cat(known, dim=1)
        tokens = self.projector(frames, proprio)
        return TokenGroup(tokens, tokens.new_ones(tokens.shape[:2], dtype=torch.bool), reader)

    def understand(
        self, seen: Tensor, proprio: Tensor, texts: TokenIds, lend: bool = False
    ) -> tuple[Tensor, DecoderReader | None]:
        """Single instants as the eyes see them [N, cameras, P, ...], proprio [N, P] and the text of each: [N, F], what
        is pointed at and the states at the readouts; and, to lend it, what has read them."""
        longest = int(texts.mask.any(0).sum())  # of these: they may be some of many
        ids, said = texts.ids[:, :longest], texts.mask[:, :longest]
        state, asks = (ids.new_tensor(x).expand(len(ids), -1) for x in ([STATE], self.asks))
        ids = torch.cat([state, ids, asks], dim=1)
        with self._autocast():
            embedded, looked = self._begin(seen, self._embed(ids, proprio))
            pictured = embedded.shape[1] - ids.shape[1]
            mask = torch.cat([said.new_ones(len(ids), pictured + 1), said, said.new_ones(asks.shape)], dim=1)
            cache = self.decoder.new_cache(len(ids)) if lend else None
            states = self.decoder(embedded, mask, looked, cache=cache)
        queries, read = states[:, -len(self.asks) :].tensor_split([len(POINTERS)], dim=1)
        views = self.views(seen, states[:, :pictured])
        logits = self.grounding.ground(views, queries.float(), proprio)
        reader = DecoderReader(self.decoder, cache, mask, looked, self.bf16) if lend else None
        return self.found(views, logits, read), reader

    def found(self, views: Sequence[Tensor], logits: Sequence[Tensor], read: Tensor) -> Tensor:
        """Encoded instants [N, F]: what the heat maps of the pointers show in each camera's view, and the states at the
        readouts [N, R, width]."""
        return torch.cat([self.grounding.read(views, logits), read.float().flatten(1)], dim=1)

    def read(self, seen: Tensor, packed: Packed, proprio: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """States of single instants as the eyes see them [B, cameras, P, ...], of the S tokens that these take, and
        of packed documents about them: [B, S, width] and [B, L, width].

        An id below 0 is no word: `STATE`, one of `POINTERS`, or a readout. proprio: [B, P], for the first of these.
        """
        with self._autocast():
            words = self._embed(packed.ids, proprio)
            embedded, looked = self._begin(seen, words)
            prefix = embedded.shape[1] - words.shape[1]
            first = torch.arange(prefix, device=words.device).expand(len(words), -1)
            positions = torch.cat([first, prefix + packed.position], dim=1)
            states = self.decoder(embedded, packed_mask(prefix, packed), looked, positions)
        return states[:, :prefix], states[:, prefix:]

    @property
    def asks(self) -> list[int]:
        """Ids of what comes after an instruction."""
        return [*POINTERS, *range(READOUTS, READOUTS - len(self.joints.readouts), -1)]

    def _embed(self, ids: Tensor, proprio: Tensor | None) -> Tensor:
        """Embeddings of words, and of what is none: ids [B, L] to [B, L, width]."""
        words, joints = self.decoder.embed(ids.clamp_min(0)), self.joints
        learned = torch.cat([joints.pointers, joints.readouts]).to(words.dtype)
        words = torch.where((ids < STATE)[..., None], learned[(STATE - 1 - ids).clamp_min(0)], words)
        if proprio is None:
            return words
        return torch.where((ids == STATE)[..., None], joints.proprio(proprio)[:, None].to(words.dtype), words)

    def logits(self, states: Tensor) -> Tensor:
        """Of the token after each state, float32 [..., V]."""
        with self._autocast():
            return self.decoder.logits(states).float()

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
            words = self.decoder.embed(ids)
            looked = self.look({camera: x.to(self.device) for camera, x in images.items()})
            embedded, seen = self._begin(looked, words)
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
        seen = self.look({camera: x.to(self.device) for camera, x in images.items()})
        asked = {name: [tokenizer.start, *tokenizer.words(prompts[0])] for name, prompts in DESCRIBE.items()}
        documents = [(asked[language_of(text)], [*tokenizer.words(text), tokenizer.end]) for text in texts]
        columns = []
        for start in range(0, len(documents), COMPARED_TEXTS):
            some = documents[start : start + COMPARED_TEXTS]
            rows = [
                self._log_likelihood(part, pack([some] * len(part)).to(self.device), len(some))
                for part in seen.split(COMPARED_IMAGES)
            ]
            columns.append(torch.cat(rows))
        scores = torch.cat(columns, dim=1)
        return scores - (scores.logsumexp(0) - math.log(len(scores)))

    def _log_likelihood(self, seen: Tensor, packed: Packed, documents: int) -> Tensor:
        """log p of what is said in each document [B, documents]."""
        logits = self.logits(self.read(seen, packed)[1][:, :-1])
        ids, said = packed.ids[:, 1:], packed.said[:, 1:]
        each = -F.cross_entropy(logits.transpose(1, 2), ids, reduction="none").masked_fill(~said, 0.0)
        return each.new_zeros(len(seen), documents).scatter_add_(1, packed.document[:, 1:].clamp_min(0), each)

    def _begin(self, seen: Tensor, rest: Tensor) -> tuple[Tensor, Tensor | None]:
        """The sequence of instants as the eyes see them [N, cameras, P, ...] and the rest [N, L, width].

        Where gated layers look at the pictures, the sequence is the rest alone, and beside it is what they look at.
        """
        pictures = self.enter(seen.flatten(0, 1)).unflatten(0, seen.shape[:2])
        tokens = (pictures + self.joints.view).flatten(1, 2)
        return (rest, tokens) if self.looks else (torch.cat([tokens.to(rest.dtype), rest], dim=1), None)
