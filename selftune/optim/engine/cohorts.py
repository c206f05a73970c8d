"""Cohorts of parameters that step alike, and the buckets of them on which update rules work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from selftune.dtensor import is_sharded, own_parts
from selftune.optim.engine.collectives import Shards, all_plain, all_plain_grads, shards
from selftune.optim.engine.sparse_rows import Rows, is_sparse
from selftune.tensor_list import TensorList

Group = dict[str, Any]
State = dict[str, Any]

# The most elements in a bucket, and so in each temporary tensor of a rule. On a CPU temporaries of
# this size stay in the cache from one operation of the rule to the next.
CHUNK = 2**24
CHUNK_ON_CPU = 2**17


class Bucket:
    """Parameters of one group, device, dtype and step count, with all that a rule needs.

    `param`, `grad` and each tensor of the state are attributes, as `TensorList`s under their own
    names; so are `group`, the parameter group, and the numbers from `advance`. If the rule works
    on copies of the parameters, `source` makes them and writes them back.
    """

    def __init__(self, **attributes: Any) -> None:
        self.attributes = attributes  # older versions of torch.compile do not support vars()
        for name, value in attributes.items():
            setattr(self, name, value)

    def given(self, attributes: dict[str, Any]) -> Bucket:
        """A copy of the bucket with these attributes added or replaced."""
        return Bucket(**{**self.attributes, **attributes})

    def read_parameters(self) -> None:
        """Before the rule runs: copy the parameters' values in, if it works on copies."""
        if source := self.attributes.get("source"):
            source.read_parameters()

    def write_back(self) -> None:
        """After the rule ran: copy its results into the parameters, if it worked on copies."""
        if source := self.attributes.get("source"):
            source.write_back()

    def __getattr__(self, name: str) -> Any:  # called for missing names only
        raise AttributeError(f"neither the state nor advance() gives {name!r}")


class Cohort:
    """All parameters of one group, device, dtype, sharding, kind of gradient and step count."""

    def __init__(
        self, group: Group, members: list[Tensor], states: list[State], compiled: bool = False
    ) -> None:
        self.group = group
        self.compiled = compiled
        self.members = members
        self.states = states
        self.counts = counts(states[0])
        self.names = [name for name, value in states[0].items() if isinstance(value, Tensor)]
        self.shards: Shards = shards(members[0])
        self.device = members[0].device
        self.sparse = is_sparse(members[0])
        self.pieces: Any = None  # for compiled cohorts, see packing.py

    def memory(self) -> list[Any]:
        """The ids of all tensors, their addresses, and whether they are contiguous."""
        try:
            columns = [list(map(itemgetter(name), self.states)) for name in self.names]
        except KeyError:  # a state was deleted
            return []
        tensors = list(chain(self.members, *columns))
        parts = own_parts(tensors)
        return [
            list(map(id, tensors)),
            list(map(Tensor.data_ptr, parts)),
            list(map(Tensor.is_contiguous, parts)),
        ]

    def advance(self, rule: Callable[[Group, State], State]) -> State:
        """Call a rule's `advance`: update the counts and return the numbers of the coming step."""
        new = dict(self.counts)
        numbers = rule(self.group, new)
        self.set_counts(new)
        return numbers

    def set_counts(self, new: State) -> None:
        self.counts = new
        for state in self.states:
            state.update(new)

    def buckets(self, grads: bool) -> Iterator[Bucket]:
        """Divide the parameters and states, and the gradients if asked for, into bounded buckets.

        With sparse gradients a bucket holds copies of the rows that they touch.
        """
        if grads and self.sparse:
            yield from self._buckets_of_rows()
            return
        limit = CHUNK_ON_CPU if self.device.type == "cpu" else CHUNK
        kinds = {"param": all_plain(self.members)}
        kinds |= {name: all_plain([state[name] for state in self.states]) for name in self.names}
        if grads:
            kinds["grad"] = all_plain_grads(self.members)
        rows = [part for row in zip(*kinds.values(), strict=True) for part in _split(row, limit)]
        for part in chunks([row[0].numel() for row in rows], limit):
            columns = zip(*rows[part], strict=True)
            lists = {name: TensorList(c) for name, c in zip(kinds, columns, strict=True)}
            undivided = {"members": self.members[part]} if len(rows) == len(self.members) else {}
            yield Bucket(group=self.group, **undivided, **lists)

    def _buckets_of_rows(self) -> Iterator[Bucket]:
        for p, state in zip(self.members, self.states, strict=True):
            names = ["param", *self.names]
            rows = Rows(p, [p, *(state[name] for name in self.names)])
            lists = {name: TensorList([part]) for name, part in zip(names, rows.parts, strict=True)}
            grad = TensorList([rows.grad])
            yield Bucket(group=self.group, source=rows, **lists, grad=grad)


class Watch:
    """Notices changes after which cohorts have to be rebuilt.

    Between steps callers may replace parameters, states and the memory behind them (on which
    compiled code holds on to views), or give gradients of other types.
    """

    def __init__(self, groups: list[Group], state: Any, made: list[Cohort]) -> None:
        self._compiled = [cohort for cohort in made if cohort.compiled]
        self._seen = self._look(groups, state)

    def sees_no_change(self, groups: list[Group], state: Any) -> bool:
        """Whether rebuilt cohorts would be the same."""
        return self._seen == self._look(groups, state)

    def _look(self, groups: list[Group], state: Any) -> list[Any]:
        seen: list[Any] = [list(map(id, state.values()))]
        for group in groups:
            params: list[Tensor] = group["params"]
            grads = [None if (g := p.grad) is None else (g.dtype, g.is_sparse) for p in params]
            seen.append((float(group["lr"]) != 0, group["compile"], list(map(id, params)), grads))
        return seen + [cohort.memory() for cohort in self._compiled]


def cohorts(group: Group, params: Iterable[Tensor], state: Any) -> list[Cohort]:
    """Group the parameters by all that a cohort has in common, in order of first appearance."""
    found: dict[Any, list[Tensor]] = {}
    for p in params:
        # A gradient's type need not be its parameter's.
        grad = None if p.grad is None else (p.grad.dtype, is_sparse(p))
        key = (p.device, p.dtype, is_sharded(p), shards(p), grad, *counts(state[p]).items())
        found.setdefault(key, []).append(p)
    return [Cohort(group, members, [state[p] for p in members]) for members in found.values()]


def counts(state: State) -> State:
    return {name: value for name, value in state.items() if not isinstance(value, Tensor)}


def chunks(sizes: list[int], limit: int) -> Iterator[slice]:
    """Slices of consecutive sizes that add up to at most `limit`, or contain one larger size."""
    start = elements = 0
    for i, size in enumerate(sizes):
        if elements and elements + size > limit:
            yield slice(start, i)
            start, elements = i, 0
        elements += size
    yield slice(start, len(sizes))


def _split(row: Sequence[Tensor], limit: int) -> list[Sequence[Tensor]]:
    """Split a parameter and its state into pieces of at most `limit` elements.

    They stay whole if they differ in size or are not contiguous.
    """
    elements = row[0].numel()
    if elements <= limit or any(
        tensor.numel() != elements or not tensor.is_contiguous() for tensor in row
    ):
        return [row]
    return list(zip(*(torch.split(tensor.view(-1), limit) for tensor in row), strict=True))
