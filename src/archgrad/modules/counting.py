"""The parameters and multiply-adds of a user's module, by one dry run.

The run is on the meta device, where attention and recurrent layers split into products that torch
has formulas for. Where a module cannot run there, it runs on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from archgrad.arch.genotype import Genotype
from archgrad.cost.cost import Cost
from archgrad.cost.counting import flops_of
from archgrad.errors import one_line
from archgrad.modules.mixing import Pass, running

if TYPE_CHECKING:
    from archgrad.modules.space import ModuleSpace

LOOKUPS = (nn.Embedding, nn.EmbeddingBag)
"""Modules with a matrix that is read and not multiplied with."""


class Counted(TorchDispatchMode):
    """Count multiply-adds by torch's formulas."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self.macs += flops_of(func, args, kwargs, out) // 2
        return out


def count(net: nn.Module, example: tuple[Any, ...]) -> dict[str, int]:
    """Return "params" and "macs" of a module for an example of batch 1, as `archgrad.cost` counts.

    Raises:
        ValueError: A module with a weight matrix runs operations that torch has no formula for.
    """
    macs = _run(net, example, [net])[net]
    return {"params": _parameters([net]), "macs": macs}


def costs(space: ModuleSpace) -> dict[str, Cost]:
    """Return the costs "params" and "macs" of the networks of a space, exact by addition.

    One pass with the weight 1 on every alternative counts all of them at their true input shapes.

    Raises:
        ValueError: The operations of an alternative cannot be counted.
    """
    whole = space.resized(primitives=None) if space.primitives else space
    net = whole.supernet()
    modules = {
        (group.name, primitive): net.ops(group.name, 0, primitive)
        for group in whole.groups.values()
        for primitive in group.edges[0].primitives
    }
    distinct = list({id(one): one for used in modules.values() for one in used}.values())
    macs = _run(net.net, net.example, [net.net, *distinct])
    each = {
        "params": {module: _parameters([module]) for module in distinct},
        "macs": {module: macs[module] for module in distinct},
    }
    total = {"params": _parameters([net.net]), "macs": macs[net.net]}

    @cache
    def exact(genotype: Genotype) -> dict[str, int]:
        derived: Any = space.derive(genotype).network
        return count(derived.net, net.example)

    def cost(name: str) -> Cost:
        ops: dict[str, dict[tuple[int, int, str], float]] = {group: {} for group in whole.groups}
        for (group, primitive), used in modules.items():
            ops[group][0, 1, primitive] = float(sum(each[name][module] for module in used))
        base = total[name] - sum(each[name].values())
        return Cost(name, "", base, ops, lambda genotype: exact(genotype)[name])

    return {name: cost(name) for name in each}


def _run(
    net: nn.Module, example: tuple[Any, ...], watched: list[nn.Module]
) -> dict[nn.Module, int]:
    """Return the multiply-adds of some modules of a network in one pass."""
    try:
        meta = tree_map_only(Tensor, lambda x: x.to("meta"), example)
        return _counted_pass(net, meta, watched)
    except ValueError:
        raise
    except Exception as on_meta:  # some modules read values, which the meta device has not
        try:
            return _counted_pass(net, example, watched)
        except ValueError:
            raise
        except Exception as error:
            raise ValueError(
                f"the operations of {type(net).__name__} cannot be counted "
                f"({type(error).__name__}: {one_line(error)})"
            ) from on_meta


def _counted_pass(
    net: nn.Module, example: tuple[Any, ...], watched: list[nn.Module]
) -> dict[nn.Module, int]:
    macs = dict.fromkeys(watched, 0)
    weighted = {
        module: name
        for name, module in net.named_modules()
        if not isinstance(module, LOOKUPS)
        and any(one.dim() > 1 for one in module.parameters(recurse=False))
    }
    ran: set[nn.Module] = set()
    counts = dict.fromkeys(weighted, 0)
    meta = any(x.is_meta for x in torch.utils._pytree.tree_leaves(example) if torch.is_tensor(x))
    tensors = {
        name: tensor.to("meta") if meta else tensor
        for name, tensor in (*net.named_parameters(), *net.named_buffers())
    }
    was = {module: module.training for module in net.modules()}
    with Counted() as counter, without_fast_paths(), torch.no_grad(), running(Pass()):
        hooks = [
            hook
            for module in {*macs, *counts}
            for hook in _watch(module, counter, (macs, counts), ran)
        ]
        try:
            torch.func.functional_call(net.eval(), tensors, example)
        finally:
            for hook in hooks:
                hook.remove()
            for module, training in was.items():
                module.training = training
    if lost := [name for module, name in weighted.items() if module in ran and not counts[module]]:
        kind = type(net.get_submodule(lost[0])).__name__
        raise ValueError(
            f"the multiply-adds of {lost[0]!r} ({kind}) cannot be counted, because torch has no "
            "formula for its operations: leave out the budget, or write it with torch's layers"
        )
    return macs


def _watch(
    module: nn.Module,
    counter: Counted,
    tables: tuple[dict[nn.Module, int], ...],
    ran: set[nn.Module],
) -> Iterator[Any]:
    """Add hooks that record the multiply-adds of a module's forward in the tables."""

    def before(module: nn.Module, arguments: Any) -> None:
        for table in tables:
            if module in table:
                table[module] -= counter.macs

    def after(module: nn.Module, arguments: Any, output: Any) -> None:
        ran.add(module)
        for table in tables:
            if module in table:
                table[module] += counter.macs

    yield module.register_forward_pre_hook(before)
    yield module.register_forward_hook(after)


@contextmanager
def without_fast_paths() -> Iterator[None]:
    """Run attention as the products that it consists of."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _parameters(modules: list[nn.Module]) -> int:
    return sum({id(p): p.numel() for module in modules for p in module.parameters()}.values())
