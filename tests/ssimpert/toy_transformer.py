"""A vision transformer small enough to take apart by hand, with any number of prefix tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Norm, attention of one head, residual; norm, rectifier between two linear layers, residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.after_norm1(tokens, self.norm1(tokens))

    def after_norm1(self, tokens: Tensor, normed: Tensor) -> Tensor:
        query, key, value = self.qkv(normed).chunk(3, dim=-1)
        attention = (query @ key.transpose(1, 2) / query.shape[-1] ** 0.5).softmax(dim=-1)
        tokens = tokens + self.proj(attention @ value)
        return tokens + self.mlp(self.norm2(tokens))


class ToyTransformer(nn.Module):
    """Patches of 4x4 pixels, ``prefix`` learned tokens in front, two blocks. The first token decides, or the mean."""

    def __init__(self, prefix: int = 1, width: int = 6, classes: int = 3) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, width, 4, stride=4)
        self.prefix = nn.Parameter(torch.zeros(1, prefix, width))
        self.blocks = nn.Sequential(Block(width), Block(width))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)
        generator = torch.Generator().manual_seed(9)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.7 * torch.randn(parameter.shape, generator=generator))
        self.double().eval().requires_grad_(False)

    def tokens(self, images: Tensor) -> Tensor:
        patches = self.embed(images).flatten(2).transpose(1, 2)
        return torch.cat([self.prefix.expand(len(images), -1, -1), patches], dim=1)

    def tail(self, tokens: Tensor) -> Tensor:
        normed = self.norm(tokens)
        return self.head(normed[:, 0] if self.prefix.shape[1] else normed.mean(dim=1))

    def forward(self, images: Tensor) -> Tensor:
        return self.tail(self.blocks(self.tokens(images)))
