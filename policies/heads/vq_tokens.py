"""Learned tokens: the code indices of a residual vector-quantised autoencoder of chunks (VQ-BeT, arXiv:2403.03181)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..config import AutoencoderConfig, TokenConfig
from .action_code import ActionCode, l1
from .autoencoder import ChunkAutoencoder, ResidualCodes, train_autoencoder


class VectorCode(ActionCode):
    """Chunks as the codes of a few latent vectors, on some levels each; a place in this grid has its own codes.

    `fit` trains the autoencoder (`TokenConfig.autoencoder`), and from then on it stands still: its weights are buffers,
    which no optimiser reaches. Under one seed the same chunks give the same code, whatever was drawn before.

    Attributes:
        perplexity: of each place's codes over the chunks of `fit` [vectors, levels]; as many as there are codes where
            all are used alike.
    """

    name = "code of their place"

    def __init__(self, token: TokenConfig, horizon: int, action_dim: int) -> None:
        options = token.autoencoder
        least = min(options.vectors, options.levels, options.code_width, options.width)
        if least < 1 or options.codes < 2 or options.steps < 1:
            raise ValueError(
                f"policy.head.token.autoencoder: found {options}, wanted at least 2 codes and 1 of everything else"
            )
        grid = (options.vectors, options.levels)
        super().__init__(token, horizon, action_dim, grid, options.vectors * options.levels * options.codes)
        self.options = options
        self.autoencoder = freeze(self._fresh())
        self.register_buffer("perplexity", torch.zeros(grid))
        place = torch.arange(self.units)
        self.register_buffer("first", (place * options.codes).view(grid), persistent=False)
        self.register_buffer(
            "of_place", torch.arange(self.entries) // options.codes == place[:, None], persistent=False
        )
        self.perplexity: Tensor
        self.first: Tensor
        self.of_place: Tensor

    def learn(self, actions: Tensor, is_pad: Tensor) -> None:
        chunks = self.snap(actions[(~is_pad).any(1)])
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(self.options.seed)
            fresh = self._fresh().to(chunks.device)
            generator = torch.Generator().manual_seed(self.options.seed)
            train_autoencoder(fresh, chunks, self.options.steps, generator)
        self.autoencoder.load_state_dict(fresh.state_dict())
        tokens = torch.cat([self.encode(part) for part in chunks.split(4096)])
        share = tokens.flatten().bincount(minlength=self.entries).view(*self.grid, -1) / len(tokens)
        self.perplexity.copy_(torch.special.entr(share).sum(-1).exp())

    def encode(self, actions: Tensor) -> Tensor:
        return self._codes().indices(self.autoencoder.encode(self.snap(actions))) + self.first

    def decode(self, tokens: Tensor) -> Tensor:
        indices = tokens - self.first
        self.refuse((indices < 0) | (indices >= self.options.codes))
        return self.snap(self.autoencoder.decode(self._codes().look_up(indices)))

    def allowed_next(self, done: Tensor) -> Tensor:
        return self.of_place[done]

    def measure(self, actions: Tensor, is_pad: Tensor, likeliest: Tensor) -> dict[str, Tensor]:
        """Parts "l1", of the chunk that the likeliest codes make, and "reconstruction", of that which the true do."""
        return {
            "l1": l1(self.decode(likeliest), actions, is_pad),
            "reconstruction": l1(self.decode(self.encode(actions)), actions, is_pad),
        }

    def _fresh(self) -> ChunkAutoencoder:
        o: AutoencoderConfig = self.options
        return ChunkAutoencoder(*self.chunk, o.width, ResidualCodes(o.vectors, o.levels, o.codes, o.code_width))

    def _codes(self) -> ResidualCodes:
        return self.autoencoder.bottleneck  # pyright: ignore


def freeze(module: ChunkAutoencoder) -> ChunkAutoencoder:
    """The same module with buffers for parameters: saved with it, but nothing that trains will ever find them."""
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            delattr(part, name)
            part.register_buffer(name, parameter.detach())
    return module
