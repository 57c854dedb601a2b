"""Exact nearest places by cosine similarity, over a gallery of any size in bounded memory, on CPU or GPU."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

GALLERY_CHUNK = 8192  # places embedded and compared at a time
_QUERY_CHUNK = 1024  # a tile of similarities is then 32 MB, and so is every temporary
_BLOCK = 64  # similarities that are represented by their maximum when the best are looked for


@dataclass(frozen=True)
class Retrieved:
    """The k best gallery rows of n queries, best first; of equal similarities the lower row comes first."""

    row: Tensor  # (n, k) int64
    similarity: Tensor  # (n, k) float32, cosine
    log_normalizer: Tensor  # (n,) float32, log of the sum of exp(scale * similarity) over the whole gallery

    def probability(self, scale: float) -> Tensor:
        """Softmax over the whole gallery, at the scale of the search. Returns (n, k) float32."""
        return torch.exp(scale * self.similarity - self.log_normalizer[:, None])


def chunked(rows: Iterable, size: int) -> Iterator:
    """Slices of a sequence, array or tensor, size rows each but for the last."""
    return (rows[start : start + size] for start in range(0, len(rows), size))


def largest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row and their columns, largest first, the lowest column first among equals.

    values: (n, g) with k <= g.  Returns (n, k) and (n, k) int64.
    The k largest lie in the k blocks with the largest maxima, so that few values are ever sorted. torch.topk alone says
    nothing about equals: where the value after the k-th equals it, the choice is open and the row is sorted in full.
    """
    n, g = values.shape
    wanted = min(k + 1, g)
    n_blocks = g // _BLOCK
    if n_blocks > 4 * wanted:
        blocks = values[:, : n_blocks * _BLOCK].unflatten(1, (n_blocks, _BLOCK))
        best_block = blocks.amax(2).topk(wanted, sorted=False).indices.sort().values
        column = (best_block[:, :, None] * _BLOCK + torch.arange(_BLOCK, device=values.device)).flatten(1)
        rest = torch.arange(n_blocks * _BLOCK, g, device=values.device).expand(n, -1)
        column = torch.cat([column, rest], dim=1)
        top = values.gather(1, column).topk(wanted)
        column = column.gather(1, top.indices)
    else:
        top = values.topk(wanted)
        column = top.indices
    value, column = top.values[:, :k], column[:, :k]
    value, column = _lower_column_first(value, column)
    if wanted > k:
        is_open = top.values[:, k] == top.values[:, k - 1]
        if is_open.any():
            value[is_open], column[is_open] = (
                t[:, :k] for t in values[is_open].sort(dim=1, descending=True, stable=True)
            )
    return value, column


def _lower_column_first(value: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """Sort the columns of each row by falling value, then by rising column. Both (n, k)."""
    column, order = column.sort(dim=1)
    value, order = value.gather(1, order).sort(dim=1, descending=True, stable=True)
    return value, column.gather(1, order)


def retrieve(queries: Tensor, gallery: Iterable[Tensor], k: int, *, scale: float = 1.0) -> Retrieved:
    """The k gallery rows most similar to each query, and the normaliser of a softmax over the whole gallery.

    queries: (n, e) unit vectors.  gallery: chunks (c, e) of unit vectors on the same device, each used once and let go,
    so that it may be embedded on the way.  k larger than the gallery gives all of it; an empty gallery gives k = 0.
    Memory: the queries, one chunk of the gallery and a tile of 1024 x c similarities.
    """
    n = len(queries)
    value = queries.new_empty((n, 0))
    row = torch.empty((n, 0), dtype=torch.int64, device=queries.device)
    log_normalizer = queries.new_full((n,), -torch.inf)
    n_seen = 0
    for chunk in gallery:
        found = [_retrieve_tile(tile, chunk, k, scale) for tile in chunked(queries, _QUERY_CHUNK)]
        new_value, new_row, new_normalizer = (torch.cat(parts) for parts in zip(*found, strict=True))
        # Earlier rows stand first, so a stable sort keeps the lower row of equals.
        value, order = torch.cat([value, new_value], dim=1).sort(dim=1, descending=True, stable=True)
        row = torch.cat([row, new_row + n_seen], dim=1).gather(1, order)
        value, row = value[:, :k], row[:, :k]
        log_normalizer = torch.logaddexp(log_normalizer, new_normalizer)
        n_seen += len(chunk)
    return Retrieved(row, value, log_normalizer)


def _retrieve_tile(queries: Tensor, chunk: Tensor, k: int, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Best values (n, k), their rows in the chunk (n, k) and the log normaliser (n,) of one tile."""
    similarity = queries @ chunk.T
    value, row = largest(similarity, min(k, len(chunk)))
    # In place: the tile is as large as everything else together. The best value keeps exp from overflowing.
    best = scale * value[:, :1]
    total = similarity.mul_(scale).sub_(best).exp_().sum(1)
    return value, row, best[:, 0] + total.log()
