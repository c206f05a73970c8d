"""A compiled rule's sums in the loop of its update, on a CPU.

Imported only where rules are compiled, as the compiler is large.
"""

from __future__ import annotations

from functools import reduce
from itertools import permutations
from typing import Any

from torch._inductor.custom_graph_pass import CustomSchedulerPass, get_hash_for_files
from torch._inductor.scheduler import FusedSchedulerNode


class SumsTogether(CustomSchedulerPass):
    """Has the sums over the same elements made in one loop.

    By itself the compiler joins one sum to the loop that makes its terms, then no other; and sums
    that share no terms it does not join to each other.
    """

    def __call__(self, nodes: list[Any]) -> list[Any]:
        alike: dict[Any, list[Any]] = {}
        for node in nodes:
            if node.is_reduction():
                alike.setdefault(node.group, []).append(node)
        for sums in alike.values():
            if len(sums) > 1 and _independent(sums):
                together = reduce(FusedSchedulerNode.fuse, sums)
                scheduler: Any = together.scheduler
                for node in sums:
                    scheduler.name_to_fused_node[node.get_name()] = together
                others = [node for node in nodes if node not in sums]
                nodes = scheduler.topological_sort_schedule([*others, together])
        return nodes

    def uuid(self) -> Any:
        return get_hash_for_files((__file__,))


OPTIONS: dict[str, Any] = {
    # A sum reads its terms from a tensor, which the loop of the update makes and never stores.
    # By default they are put into the sum, which then needs a loop of its own.
    "realize_acc_reads_threshold": 1,
    "_pre_fusion_custom_pass": SumsTogether(),
}


def _independent(nodes: list[Any]) -> bool:
    return not any(a.get_operation_names() & b.ancestors for a, b in permutations(nodes, 2))
