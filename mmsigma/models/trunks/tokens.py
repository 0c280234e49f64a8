"""What a sequence of tokens stands for."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class TokenLayout:
    """Tokens ``(B, prefix + height * width, C)``: prefix tokens, then a row-major grid.

    Attributes:
        height: Rows of the grid, in tokens.
        width: Columns of the grid, in tokens.
        prefix: Tokens before the grid (class token first, then registers).
        class_token: Whether the first prefix token is a class token.
    """

    height: int
    width: int
    prefix: int = 0
    class_token: bool = False

    def split(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Views of the prefix ``(B, prefix, C)`` and of the grid ``(B, height * width, C)``."""
        return tokens[:, : self.prefix], tokens[:, self.prefix :]

    def to_map(self, tokens: Tensor) -> Tensor:
        """The grid as a contiguous map ``(B, C, height, width)``; the prefix is dropped."""
        grid = self.split(tokens)[1].unflatten(1, (self.height, self.width))
        return grid.permute(0, 3, 1, 2).contiguous()


@dataclass(frozen=True)
class TokenState:
    """What travels with the tokens through the blocks of one forward pass.

    Attributes:
        layout: What the tokens stand for where they are; blocks that pool change it.
        shared: Whatever the trunk's embedding prepares once for all its blocks, e.g. rotary
            embeddings; no one but the trunk's own blocks reads it.
    """

    layout: TokenLayout
    shared: Any = None
