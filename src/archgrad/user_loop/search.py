"""A search that the user drives step by step, with batches, a loss and optimizers of his own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from archgrad.arch.edges import Alphas
from archgrad.arch.genotype import Genotype
from archgrad.arch.passes import Batch, Metric, Output
from archgrad.arguments import named_if_wrong
from archgrad.components.hypergradient import first_order
from archgrad.cost.cost import Cost
from archgrad.cost.counting import costs
from archgrad.cost.limits import Limits, check_feasible
from archgrad.cost.target import limit, parse_target
from archgrad.diagnostics.accuracy import are_classes
from archgrad.errors import counted, short_repr, unknown_name
from archgrad.methods import method as make_method
from archgrad.methods.budget import budget as make_budget
from archgrad.modules import ram
from archgrad.modules.blueprint import replaced
from archgrad.modules.net import arguments_of
from archgrad.modules.space import ModuleSpace
from archgrad.modules.stub import write_stub
from archgrad.searching import checkpoint
from archgrad.searching.loop import epoch_row, record_stop
from archgrad.searching.method import Method
from archgrad.searching.steps import Bilevel, MakeOptimizer
from archgrad.searching.types import State, Stepper, Values
from archgrad.storage.records import Row
from archgrad.user_loop.batches import Loaders, batch_of
from archgrad.user_loop.calibration import has_statistics, recalibrate
from archgrad.user_loop.checks import (
    check_batches,
    check_logits,
    check_optimizer,
    check_space,
    default_loss,
    scalar,
)

LossOf = Callable[[Any, Any], Tensor]
"""(output of the module, targets) -> scalar, a mean over the samples."""


class Search:
    """A search in a loop of the user's own.

    Args:
        space: Space of a module (`archgrad.module_space`).
        method: Name of a method, or several as "a+b".
        epochs: Number of epochs.
        steps: Number of calls of `step` in one epoch.
        budget: Largest costs, such as "macs=60%" or ["params=1M", "ram=256k"]. ``ram`` is the peak
            memory of one run in bytes (`archgrad.modules.ram`).
        optimizer: Function (parameters) -> optimizer of the weights. You set its learning rate.
            Without it the weights have SGD by the settings of the method.
        loss: Function (output of the module, targets) -> scalar; the cross-entropy by default.
        metrics: Name -> function (output of the module, targets) -> scalar. By default it is the
            accuracy, where the output is logits and the targets are classes.
        val: Loader of validation batches, for methods that measure networks at the end of an epoch.
        samples: Number of samples of the training and the validation split, for methods that
            remember each sample.
        seed: Seed of the search.
        device: Device of the module and the alphas. Batches are moved to it.
        precision: Precision of the forward pass, "32" or "bf16".
        recompute: Activations that the backward pass computes again: "none" or "cells" (choices).
        options: Options of the method, as `archgrad.method` takes them.

    Attributes:
        method: The method.
        state: Everything that changes in the search.
        rows: The metrics of each epoch that is over.

    Raises:
        ValueError: An argument is wrong, the method cannot search a module, or no network is within
            the budget.
    """

    @named_if_wrong
    def __init__(
        self,
        space: ModuleSpace,
        method: str = "darts",
        *,
        epochs: int,
        steps: int,
        budget: str | Sequence[str] = (),
        optimizer: MakeOptimizer | None = None,
        loss: LossOf | None = None,
        metrics: Mapping[str, LossOf] | None = None,
        val: Iterable[Any] | None = None,
        samples: tuple[int, int] = (0, 0),
        seed: int = 0,
        device: torch.device | str = "cpu",
        precision: str = "32",
        recompute: str = "none",
        **options: Any,
    ) -> None:
        check_space(space)
        self._loss = self._usual_loss = loss
        self._limits = limits_of(space, budget)
        limiting = make_budget(self._limits) if self._limits else None
        made = make_method(method, space, budget=limiting, **options)
        self._loss_of_patch = made.patch.loss or default_loss
        self.method = made.with_patch_fields(
            loss=self._loss_of, metrics=_metrics(metrics), stepper=_stepper(made, optimizer)
        )
        check_logits(self.method, space)
        self.space, self.seed = space, seed
        self.state: State = self.method.start(
            seed=seed,
            epochs=epochs,
            steps=steps,
            images=samples,
            device=device,
            precision=precision,
            recompute=recompute,
        )
        self.rows: list[Row] = []
        self._val = val
        self._finished = False
        if optimizer is not None:
            check_optimizer(self.method, self.optimizer)
        # The first stage begins here, so that an error comes before the first step, and `module`
        # and `optimizer` stay the same objects in it.
        self.method.begin_epoch(self.state)
        self._begun = 0

    def _loss_of(self, output: Output, batch: Batch) -> Tensor:
        """Return the loss of a pass: the closure's own, the user's function, or cross-entropy."""
        if callable(batch.images):
            return scalar(output.raw, "the loss that the function returns")
        if self._loss is None:
            return self._loss_of_patch(output, batch)
        return scalar(self._loss(output.raw, batch.labels), "the loss")

    @property
    def module(self) -> nn.Module:
        """Return the module that is searched; a closure calls it.

        A method in stages (`random`, `pdarts`) makes a new one, with new optimizers, for each
        stage.
        """
        net: Any = self.state.nets["search"]
        return net.net  # type: ignore[no-any-return]

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """Return the optimizer of the weights, for a scheduler of yours."""
        return self.state.optimizers["weights"]

    @property
    def alphas(self) -> Alphas:
        """Return the alphas: group -> (1, alternatives)."""
        return self.state.alphas

    @property
    def epoch(self) -> int:
        """Return the number of epochs that are over."""
        return self.state.epoch

    @property
    def is_over(self) -> bool:
        """Return whether all epochs are over, or a method ended them early."""
        return self.state.epoch >= self.state.plan.epochs or self.state.stopped is not None

    def step(
        self, train: Any, val: Any, loss: LossOf | None = None, *, accumulate: int = 1
    ) -> Values:
        """Take one step: the alphas learn from ``val`` and the weights from ``train``.

        The last step of an epoch ends the epoch.

        Args:
            train: Batch (inputs, targets) or (inputs, targets, index), or a function without
                arguments that calls `module` and returns a scalar loss. It must give the same
                result each time, because a step may call it several times.
            val: The same, for the alphas.
            loss: Loss in the place of the one that the search has.
            accumulate: Number of parts in which each batch is computed, which takes less memory.
                BatchNorms normalise each part by itself.

        Returns:
            The metrics of the step, as scalar tensors.

        Raises:
            ValueError: The search is over or has diverged, or an argument is wrong.
        """
        if self.is_over:
            raise ValueError(
                f"the search is over after {counted(self.state.epoch, 'epoch')}: "
                "call finish or derive"
            )
        self._check_parts(accumulate)
        device = self.state.device
        batches = [
            batch_of(given, split, device, accumulate)
            for split, given in (("train", train), ("val", val))
        ]
        if self.state.step == 0 and self.state.epoch != self._begun:
            self.method.begin_epoch(self.state)
            self._begun = self.state.epoch
        check_batches(self.method, self.state, *batches)
        self._loss = loss or self._usual_loss
        self.state.parts = accumulate
        values = self.method.step(self.state, *batches)
        if self.state.step == self.method.steps(self.state):
            self._end_epoch()
        return values

    def _check_parts(self, parts: int) -> None:
        if parts == 1:
            return
        indexed = any(getattr(memory, "indexed", ()) for memory in self.state.memory.values())
        if indexed or (
            self.method.hypergradient is not first_order or self.method.patch.transforms
        ):
            raise ValueError(
                f"{self.method.name} reads a whole batch (second order, gradients of a pass, or "
                "remembered logits): leave out accumulate"
            )

    def _end_epoch(self) -> None:
        data = self._loaders({} if self._val is None else {"val": self._val}, "Search(val=loader)")
        row = epoch_row(self.method, self.state)
        row |= self.method.end_epoch(self.state, data)
        record_stop(self.state, row)
        self.rows.append(row)

    def _loaders(self, loaders: Mapping[str, Iterable[Any]], where: str) -> Loaders:
        def missing(split: str) -> ValueError:
            return ValueError(
                f"{self.method.name} measures networks on {split} batches: give a loader by "
                f"{where.replace('val', split)}"
            )

        return Loaders(loaders, self.state.device, missing)

    def finish(
        self, *, val: Iterable[Any] | None = None, train: Iterable[Any] | None = None
    ) -> Genotype:
        """Take the decisions of a method that decides after the last epoch.

        Args:
            val: Loader of validation batches; by default that of the search.
            train: Loader of training batches, for a method that trains on (dartspt).

        Returns:
            The genotype.

        Raises:
            ValueError: Epochs are left, or a loader is missing.
        """
        if not self.is_over:
            raise ValueError(
                f"epoch {self.state.epoch + 1} of {self.state.plan.epochs} is not over: "
                "take its steps first"
            )
        given = {"val": self._val if val is None else val, "train": train}
        loaders = {split: loader for split, loader in given.items() if loader is not None}
        data = self._loaders(loaders, "search.finish(val=loader)")
        for _ in self.method.finalise(self.state, data):
            pass
        self._finished = True
        return self.method.genotype(self.state)

    @property
    def genotype(self) -> Genotype:
        """Return the architecture that is selected now, within the budget.

        Raises:
            ValueError: The method decides after the last epoch, and `finish` was not called.
        """
        if self.is_over and self.method.patch.finalise and not self._finished:
            raise ValueError(
                f"{self.method.name} decides after the last epoch: call search.finish(val=loader)"
            )
        return self.method.genotype(self.state)

    def derive(self, weights: str = "fresh", *, batches: Iterable[Any] | None = None) -> nn.Module:
        """Return the network that is selected now: the user's module without a choice inside.

        Args:
            weights: "fresh" for new weights of the user's factory, or "inherit" for those of the
                search.
            batches: Inputs, or batches (inputs, targets), on which the statistics of BatchNorms are
                computed again. A module with BatchNorms that inherits its weights needs them.

        Returns:
            The network. No object of archgrad is inside.

        Raises:
            ValueError: ``weights`` is wrong, an instance cannot be made afresh, or ``batches`` are
                missing.
        """
        if weights not in ("fresh", "inherit"):
            raise unknown_name("weights", weights, ("fresh", "inherit"))
        genotype = self.genotype
        if weights == "fresh":
            if self.space.plan.instance:
                raise ValueError(
                    "the space was made of an instance, so no fresh weights can be drawn: give its "
                    'class to module_space, or derive(weights="inherit")'
                )
            network: Any = self.space.derive(genotype).network
            network.initialise(self.seed)
            return network.net.to(self.state.device)  # type: ignore[no-any-return]
        kept = {
            name: edges[0] for name, edges in genotype.primitives(self.space.plan.groups).items()
        }
        net = replaced(copy.deepcopy(self.module), self.space.plan.places, kept)
        if batches is None and has_statistics(net):
            raise ValueError(
                "the module has BatchNorms, whose statistics are those of the mixture: give "
                'derive(weights="inherit", batches=loader)'
            )
        return recalibrate(net, self._inputs(batches)) if batches is not None else net

    def _inputs(self, batches: Iterable[Any]) -> Iterable[Any]:
        for given in batches:
            inputs = given[0] if isinstance(given, tuple | list) else given
            inputs = tree_map_only(Tensor, lambda x: x.to(self.state.device), inputs)
            yield arguments_of(inputs, self.space.example())

    def write_stub(self, path: str | Path) -> None:
        """Write a file, such as ``choices.py``, by which the selected module runs with torch alone.

        Save the weights of `derive` beside it (`archgrad.modules.write_stub` says how both are
        used).

        Raises:
            ValueError: The file cannot be imported by its name, or no genotype is selected yet.
        """
        write_stub(path, self.space, self.genotype)

    @property
    def bounds(self) -> dict[str, float]:
        """Return the largest allowed cost of each budget, by the name of the cost."""
        return {one.cost.name: one.bound for one in self._limits}

    def costs(self) -> dict[str, float]:
        """Return the costs of the selected network, by name."""
        genotype = self.genotype
        counted_costs = costs(self.space, 0)
        return {name: cost.value_of(genotype) for name, cost in counted_costs.items()} | {
            one.cost.name: one.cost.value_of(genotype) for one in self._limits
        }

    def state_dict(self) -> dict[str, Any]:
        """Return everything that an exact resume needs: dicts, lists, tensors and numbers.

        Raises:
            ValueError: The search has diverged.
        """
        own = {"rows": copy.deepcopy(self.rows), "finished": self._finished}
        return copy.deepcopy(checkpoint.pack(self.method, self.state)) | own

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on from a state that `state_dict` returned, in a search with the same arguments.

        The module and the optimizers stay the same objects, so a scheduler of yours stays valid;
        restore the scheduler by its own ``load_state_dict``. In a later stage of a method they are
        new objects.

        Raises:
            ValueError: It is the state of another search.
        """
        content = copy.deepcopy(dict(saved))
        rows, finished = content.pop("rows", []), content.pop("finished", False)
        found = checkpoint.restore(self.method, content, self.state.device)
        for name in ("plan", "seed", "precision"):
            if (was := getattr(found, name)) != (now := getattr(self.state, name)):
                raise ValueError(
                    f"the state is of a search with {name} {was}, not {now}: make Search with the "
                    "same arguments"
                )
        _take_over(self.state, found)
        self.rows, self._finished = rows, finished
        # At the start of a later epoch its stage must begin; within an epoch it has begun.
        self._begun = self.state.epoch if self.state.step or not self.state.epoch else -1


def limits_of(space: ModuleSpace, budget: str | Sequence[str]) -> Limits:
    """Return the limits of budgets such as "macs=60%".

    Raises:
        ValueError: A budget is unknown, or no network is within it.
    """
    texts = [budget] if isinstance(budget, str) else list(budget)
    targets = [parse_target(text) for text in texts]
    if not targets:
        return ()
    counted_costs = cache(partial(costs, space, 0))
    known: dict[str, Callable[[], Cost]] = {
        "params": lambda: counted_costs()["params"],
        "macs": lambda: counted_costs()["macs"],
        ram.NAME: partial(ram.peak_ram, space),
    }
    for target in targets:
        if target.name not in known:
            raise unknown_name("cost in a budget:", target.name, known)
    found = tuple(limit(target, known[target.name](), space.groups) for target in targets)
    check_feasible(space.groups, found)
    return found


def known_accuracy(output: Output, batch: Batch) -> Tensor | None:
    """Return the accuracy where the output is logits (B, K) and the targets are classes (B,)."""
    if not are_classes(output.logits, batch.labels):
        return None
    return (output.logits.argmax(1).flatten() == batch.labels.flatten()).float().mean()


def _metrics(metrics: Mapping[str, LossOf] | None) -> dict[str, Metric]:
    """Return the metrics of a step; a function that returns the loss hides output and targets."""
    if not metrics:
        return {"accuracy": known_accuracy}
    if not isinstance(metrics, Mapping) or not all(map(callable, metrics.values())):
        raise ValueError(f"metrics must be functions by name, not {short_repr(metrics)}")
    if "loss" in metrics:
        raise ValueError("metrics: the rows have a column of the name 'loss': take another name")

    def metric(name: str, output: Output, batch: Batch) -> Tensor | None:
        if callable(batch.images):
            return None
        value = torch.as_tensor(metrics[name](output.raw, batch.labels))
        return scalar(value, f"metric {name!r}")

    return {name: partial(metric, name) for name in metrics}


def _stepper(made: Method, optimizer: MakeOptimizer | None) -> Stepper | None:
    """Return the stepper of the method, with an optimizer of the user's."""
    if optimizer is None:
        return made.patch.stepper
    if made.patch.stepper is not None:
        raise ValueError(f"{made.name} has a step and optimizers of its own: leave out optimizer")
    return Bilevel(optimizer)


def _take_over(state: State, found: State) -> None:
    """Copy a restored state into one whose networks and optimizers stay the same objects.

    Only a state of another stage replaces them.
    """
    kept: dict[str, Any] = {"recompute": state.recompute}
    if found.space.spec() == state.space.spec():
        for name, net in state.nets.items():
            net.load_state_dict(found.nets[name].state_dict())
        for name, rows in state.alphas.items():
            rows.data.copy_(found.alphas[name])
        for name, optimizer in state.optimizers.items():
            optimizer.load_state_dict(found.optimizers[name].state_dict())
        kept |= {"nets": state.nets, "alphas": state.alphas, "optimizers": state.optimizers}
    vars(state).update({**vars(found), **kept})
    for memory in state.memory.values():
        held = memory.state_dict()
        memory.bind(state)
        memory.load_state_dict(held)
