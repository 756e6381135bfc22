"""Places for the boxes of an acyclic graph, in layers from top to bottom (Sugiyama, Tagawa & Toda 1981).

Ranks by the longest path; long edges pass through lanes, one point a rank; crossings are reduced by barycentres; then
x by least squares: every box is drawn towards its neighbours, a rank at a time, and a rank's boxes keep their order and
distance (an isotonic regression, solved exactly by pooling adjacent violators). A shortcut, whose two ends have other
arrows too, draws nothing and gives way, so that it runs beside a straight trunk. The same graph gives the same places.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Edge", "Layout", "layout"]

_LANE_WIDTH = 10.0
_SWEEPS = 24
# what a shortcut weighs beside a box that it has to make room for
_FEATHER = 1e-6
# how much more the links of an unbranched path draw than others, so that it runs straight
_STIFF = 20.0
# pixels: sweeps end when nothing moves farther
_STILL = 0.05


@dataclass(frozen=True)
class Edge:
    """One arrow, from a box to a box; ``lanes`` are the x at which it passes the ranks between them."""

    source: int
    target: int
    lanes: tuple[float, ...]


@dataclass(frozen=True)
class Layout:
    """Where everything goes.

    Attributes:
        rank: row of each box, from 0 at the top.
        x: centre of each box.
        edges: all arrows.
        width: from the left of the leftmost to the right of the rightmost box or lane; x counts from that left.
    """

    rank: tuple[int, ...]
    x: tuple[float, ...]
    edges: tuple[Edge, ...]
    width: float


def layout(widths: Sequence[float], sources: Sequence[Sequence[int]], gap: float = 24) -> Layout:
    """Return places for boxes of given widths.

    Args:
        widths: of each box, in pixels.
        sources: for each box, the boxes before it in the list that it reads.
        gap: least distance between boxes of a rank, in pixels.
    """
    graph = _Ranked(widths, sources, gap)
    order = _reduce_crossings(graph)
    x = _place(graph, order)
    _straighten(graph, order, x)
    left = min(x[node] - graph.width[node] / 2 for node in range(len(x)))
    right = max(x[node] + graph.width[node] / 2 for node in range(len(x)))
    edges = [Edge(a, b, tuple(round(x[lane] - left, 2) for lane in lanes)) for a, b, lanes in graph.edges]
    places = tuple(round(x[node] - left, 2) for node in range(len(widths)))
    return Layout(tuple(graph.rank[: len(widths)]), places, tuple(edges), right - left)


class _Ranked:
    """The graph with a rank for each box, and long edges cut into lanes.

    Attributes:
        boxes: how many of the nodes are boxes; what follows them are lanes.
        light: lanes of shortcuts.
        rank: of each node.
        width: of each node.
        above: neighbours of each node one rank up.
        below: neighbours one rank down.
        edges: (box, box, lanes between them).
        rows: nodes of each rank.
    """

    def __init__(self, widths: Sequence[float], sources: Sequence[Sequence[int]], gap: float) -> None:
        self.boxes, self.gap = len(widths), gap
        self.light: set[int] = set()
        self.width = list(widths)
        self.rank = _ranks(sources)
        self.above: list[list[int]] = [[] for _ in widths]
        self.below: list[list[int]] = [[] for _ in widths]
        self.edges: list[tuple[int, int, list[int]]] = []
        readers = Counter(source for reads in sources for source in reads)
        for target, reads in enumerate(sources):
            for source in reads:
                lanes = self._connect(source, target)
                if readers[source] > 1 and len(reads) > 1:
                    self.light.update(lanes)
        self.rows: list[list[int]] = [[] for _ in range(max(self.rank, default=-1) + 1)]
        for node, rank in enumerate(self.rank):
            self.rows[rank].append(node)

    def _connect(self, source: int, target: int) -> list[int]:
        lanes: list[int] = []
        last = source
        for rank in range(self.rank[source] + 1, self.rank[target]):
            lane = len(self.width)
            self.width.append(_LANE_WIDTH)
            self.rank.append(rank)
            self.above.append([])
            self.below.append([])
            self._link(last, lane)
            lanes.append(lane)
            last = lane
        self._link(last, target)
        self.edges.append((source, target, lanes))
        return lanes

    def _link(self, upper: int, lower: int) -> None:
        self.below[upper].append(lower)
        self.above[lower].append(upper)

    def is_lane(self, node: int) -> bool:
        return node >= self.boxes

    def is_only_link(self, a: int, b: int) -> bool:
        """Whether the edge between two nodes is the only one at the upper's foot and at the lower's head."""
        upper, lower = (a, b) if self.rank[a] < self.rank[b] else (b, a)
        return len(self.below[upper]) == 1 and len(self.above[lower]) == 1

    def chains(self) -> list[list[int]]:
        """Return the paths of nodes, from the top, that nothing joins and nothing leaves."""
        chains = []
        for node in range(len(self.rank)):
            if any(self.is_only_link(node, other) for other in self.above[node]):
                continue
            chain = [node]
            while self.below[chain[-1]] and self.is_only_link(chain[-1], self.below[chain[-1]][0]):
                chain.append(self.below[chain[-1]][0])
            chains.append(chain)
        return [chain for chain in chains if len(chain) > 1]

    def distance(self, left: int, right: int) -> float:
        """Return the least distance between the centres of two neighbours in a rank."""
        gap = self.gap / 2 if self.is_lane(left) or self.is_lane(right) else self.gap
        return (self.width[left] + self.width[right]) / 2 + gap


def _ranks(sources: Sequence[Sequence[int]]) -> list[int]:
    """Return the length of the longest path to each box; a box that reads nothing stands right above its reader."""
    ranks: list[int] = []
    for reads in sources:
        ranks.append(max((ranks[source] + 1 for source in reads), default=0))
    for reads in sources:
        for source in reads:
            if not sources[source]:
                ranks[source] = _lowest(source, sources, ranks)
    return ranks


def _lowest(node: int, sources: Sequence[Sequence[int]], ranks: Sequence[int]) -> int:
    return min(ranks[reader] for reader, reads in enumerate(sources) if node in reads) - 1


# ---- order within a rank


def _reduce_crossings(graph: _Ranked) -> list[list[int]]:
    """Order each rank by the mean place of its neighbours, down and up; keep the order with the fewest crossings."""
    order = [list(row) for row in graph.rows]
    best, fewest = [list(row) for row in order], _crossings(graph, order)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        down = sweep % 2 == 0
        for rank in range(len(order)) if down else reversed(range(len(order))):
            neighbours = graph.above if down else graph.below
            beside = order[rank - 1 if down else rank + 1] if 0 <= rank + (-1 if down else 1) < len(order) else []
            place = {node: i for i, node in enumerate(beside)}
            order[rank] = _by_barycentre(order[rank], neighbours, place)
        crossings = _crossings(graph, order)
        if crossings < fewest:
            best, fewest = [list(row) for row in order], crossings
    return best


def _by_barycentre(row: list[int], neighbours: Sequence[Sequence[int]], place: dict[int, int]) -> list[int]:
    keys = {}
    for i, node in enumerate(row):
        places = [place[other] for other in neighbours[node] if other in place]
        keys[node] = sum(places) / len(places) if places else float(i)
    return sorted(row, key=keys.__getitem__)


def _crossings(graph: _Ranked, order: list[list[int]]) -> int:
    """Count the pairs of edges that cross, rank by rank."""
    total = 0
    for upper, lower in itertools.pairwise(order):
        place = {node: i for i, node in enumerate(lower)}
        ends = [end for node in upper for end in sorted(place[other] for other in graph.below[node])]
        total += sum(a > b for i, a in enumerate(ends) for b in ends[i + 1 :])
    return total


# ---- x


def _place(graph: _Ranked, order: list[list[int]]) -> list[float]:
    x = [0.0] * len(graph.width)
    for row in order:
        _settle(graph, row, [0.0] * len(row), x)
    for sweep in range(4 * _SWEEPS):
        before = list(x)
        for row in order if sweep % 2 else reversed(order):
            _settle(graph, row, [_wanted(graph, node, x) for node in row], x)
        if max(abs(new - old) for new, old in zip(x, before, strict=True)) < _STILL:
            break
    return x


def _wanted(graph: _Ranked, node: int, x: list[float]) -> float:
    """Return where a node is drawn to: the mean of its neighbours but for shortcuts, or of all if it is one itself."""
    total = weights = 0.0
    for other in (*graph.above[node], *graph.below[node]):
        if node in graph.light or other not in graph.light:
            weight = _STIFF if graph.is_only_link(node, other) else 1.0
            total, weights = total + weight * x[other], weights + weight
    return total / weights if weights else x[node]


def _settle(graph: _Ranked, row: list[int], wanted: list[float], x: list[float]) -> None:
    """Set x of a row as near to ``wanted`` as order and distances allow, in weighted least squares."""
    offsets = [0.0]
    for left, right in itertools.pairwise(row):
        offsets.append(offsets[-1] + graph.distance(left, right))
    pools: list[tuple[float, float, int]] = []  # mean, weight, nodes
    for node, want, offset in zip(row, wanted, offsets, strict=True):
        mean, weight, count = want - offset, _FEATHER if node in graph.light else 1.0, 1
        while pools and pools[-1][0] > mean:
            other, heavier, more = pools.pop()
            mean = (mean * weight + other * heavier) / (weight + heavier)
            weight, count = weight + heavier, count + more
        pools.append((mean, weight, count))
    means = [mean for mean, _, count in pools for _ in range(count)]
    for node, mean, offset in zip(row, means, offsets, strict=True):
        x[node] = mean + offset


def _straighten(graph: _Ranked, order: list[list[int]], x: list[float]) -> None:
    """Let each path that nothing joins or leaves run at one x, where there is room: its middle, or its ends."""
    place = {node: (row, i) for row in order for i, node in enumerate(row)}
    for chain in graph.chains():
        places = sorted(x[node] for node in chain)
        for common in (places[len(places) // 2], places[-1], places[0]):
            if all(_has_room(graph, *place[node], common, x) for node in chain):
                for node in chain:
                    x[node] = common
                break


def _has_room(graph: _Ranked, row: list[int], i: int, at: float, x: list[float]) -> bool:
    left = i == 0 or at - x[row[i - 1]] >= graph.distance(row[i - 1], row[i]) - 0.01
    right = i == len(row) - 1 or x[row[i + 1]] - at >= graph.distance(row[i], row[i + 1]) - 0.01
    return left and right
