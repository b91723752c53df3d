"""A method: a patch over a space, with DARTS in every place that the patch leaves open.

It starts a search, takes its steps, begins its stages, selects a genotype and finalises. It does
not import the loop. A `Stage` (`archgrad.searching.types`) changes the space, and `Method.build`
then makes the networks of the new space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property, partial
from typing import Any, NamedTuple, TypeVar

import torch

from archgrad import options
from archgrad.arch.edges import Alphas
from archgrad.arch.genotype import Genotype
from archgrad.arch.mixture import Mixture
from archgrad.arch.passes import Batch, Loss, Metric
from archgrad.arch.space import AlphaSettings, Space, WeightSettings
from archgrad.arguments import named_if_wrong
from archgrad.components.context import Context, Progress
from archgrad.components.hypergradient import Hypergradient, first_order
from archgrad.components.losses import Term, accuracy, label_loss, task
from archgrad.components.relax import softmax
from archgrad.components.schedules import epoch_at_share
from archgrad.components.select import strongest_genotype
from archgrad.cost import process_memory
from archgrad.cost.limits import Limits
from archgrad.devices import device_named
from archgrad.errors import counted, short_repr, unknown_name
from archgrad.searching import checks, rate
from archgrad.searching.finite import EVERY, check_finite
from archgrad.searching.patch import Patch
from archgrad.searching.start import initial_alphas, initialise
from archgrad.searching.steps import Bilevel
from archgrad.searching.types import (
    Decision,
    Finalise,
    Plan,
    Relaxation,
    SearchData,
    Select,
    Stage,
    State,
    Stepper,
    Values,
)
from archgrad.spaces import space_of

S = TypeVar("S", WeightSettings, AlphaSettings)


class Construction(NamedTuple):
    """Record how `archgrad.method` made a method.

    Attributes:
        construct: Function that makes the method again, from names, space and options.
        name: Names of the methods, joined by "+".
        given: Options of the call.
        patch: The patch that was made.
        space: The space of the method.
    """

    construct: Callable[..., Method]
    name: str
    given: Mapping[str, Any]
    patch: Patch
    space: Space


@dataclass(frozen=True)
class Method:
    """Complete a patch with DARTS, by the defaults of its space (`Space.defaults`).

    Attributes:
        patch: Changes to DARTS.
        base: Space before the patch changes it.
        published: Published rate and lengths, by which alphas.lr is fitted to the length of a
            search; None leaves the rate as the patch has it.
        construction: Names and options that `archgrad.method` made the method from.

    Raises:
        ValueError: The patch sets a field that the stepper does not read, or a setting that cannot
            be.
    """

    patch: Patch
    base: Space
    published: rate.Published | None = None
    construction: Construction | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "base", space_of(self.base))
        self._check_presets()
        unread = self.patch.set_fields() - self.stepper.reads
        if unread:
            names = ", ".join(sorted(unread))
            raise ValueError(
                f"{self.name}: its stepper does not read {names}; leave out the method or the "
                "option that sets it"
            )
        for name, choices in (
            ("order", ("alpha_first", "weight_first")),
            ("alpha_split", ("val", "train")),
        ):
            if (given := getattr(self, name)) not in choices:
                raise unknown_name(name, given, choices)
        for settings in ("weights", "alphas", "space"):
            getattr(self, settings)  # a wrong setting raises an error now, and not in the search

    def _check_presets(self) -> None:
        """Check that each method has the options that its presets have in this space.

        Otherwise its results would differ from the published ones, so this raises a ValueError.
        """
        for origin in self.patch.origins:
            other = origin.differing_options(self.base.name)
            if not other:
                continue
            names = "+".join(dict.fromkeys(one.name for one in self.patch.origins))
            differing = ", ".join(
                f"{name} {value!r} (not {origin.options[name]!r})" for name, value in other.items()
            )
            raise ValueError(
                f"{origin.name} has other options in space {self.base.name}: {differing}; make it "
                f"by archgrad.method({names!r}, space, patches=[...]), which has the presets and "
                "takes patches of yours, or set these options yourself"
            )

    def __repr__(self) -> str:
        return f"<Method {self.name} over space {self.base.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the names and options, because functions in a patch cannot be pickled.

        Raises:
            ValueError: `archgrad.method` did not make this method.
        """
        made = self.construction
        if made is None or made.patch is not self.patch or made.space is not self.base:
            raise ValueError(
                f"method {self.name!r} cannot be pickled: pickle the names and options that it is "
                "made of, and make it there again"
            )
        return made.construct, (made.name, self.base, dict(made.given))

    def with_patch_fields(self, **fields: Any) -> Method:
        """Return the same method with other fields of its patch."""
        return replace(self, patch=replace(self.patch, **fields))

    # Each property is the patch's value, or DARTS's where the patch does not set it. A field that
    # DARTS leaves empty needs no property: the code reads it from `patch`.
    @property
    def name(self) -> str:
        """The name of the method, or of the methods that it is composed of, joined by "+"."""
        return self.patch.name

    @cached_property
    def space(self) -> Space:
        """The space with the patch's changes (partial channels of PC-DARTS); stages start from it.

        Raises:
            ValueError: The space does not have such a setting.
        """
        try:
            return self.base.resized(**self.patch.space) if self.patch.space else self.base
        except ValueError as error:
            raise ValueError(
                f"{self.name} does not fit space {self.base.name!r}: {error}"
            ) from None

    @property
    def stepper(self) -> Stepper:
        """The stepper."""
        return self.patch.stepper or Bilevel()

    @property
    def relax(self) -> Relaxation:
        """The relaxation."""
        return self.patch.relax or softmax

    @property
    def select(self) -> Select:
        """The selection."""
        return self.patch.select or strongest_genotype

    @property
    def loss(self) -> Loss:
        """The loss of a pass."""
        return self.patch.loss or label_loss

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The metrics of a pass: the accuracy, unless the patch has others."""
        return self.patch.metrics or {"accuracy": accuracy}

    @property
    def weight_terms(self) -> tuple[Term, ...]:
        """The terms of the weights' loss, of which the first is the task."""
        return (task, *self.patch.weight_terms)

    @property
    def alpha_terms(self) -> tuple[Term, ...]:
        """The terms of the alphas' loss, of which the first is the task."""
        return (task, *self.patch.alpha_terms)

    @property
    def hypergradient(self) -> Hypergradient:
        """The function that computes the gradient of the alphas."""
        return self.patch.hypergradient or first_order

    @property
    def alpha_split(self) -> str:
        """The split whose images alphas learn from."""
        return self.patch.alpha_split or "val"

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages."""
        return self.patch.stages or ()

    @property
    def limits(self) -> Limits:
        """The limits of an architecture's cost."""
        return self.patch.limits

    @property
    def order(self) -> str:
        """The order of the two halves of a step."""
        return self.patch.order or self.base.defaults.order

    @cached_property
    def weights(self) -> WeightSettings:
        """The settings of the weights' optimizer."""
        return self._settings("weights", self.base.defaults.weights)

    @cached_property
    def alphas(self) -> AlphaSettings:
        """The settings of the alphas' optimizer before they are fitted (`alpha_settings`)."""
        return self._settings("alphas", self.base.defaults.alphas)

    def _settings(self, name: str, usual: S) -> S:
        """Return the settings of one optimizer.

        Raises:
            ValueError: A setting is unknown, of another type, or out of range.
        """
        given = options.values(
            f"{self.name}: {name}", options.model(type(usual)), getattr(self.patch, name)
        )
        return replace(usual, **given)

    @cached_property
    def alpha_settings(self) -> Callable[[Plan], AlphaSettings]:
        """The function plan -> the alphas' settings in a search of this length.

        It is `archgrad.searching.rate.fitted_settings`, cached because every pass calls it.
        """
        return cache(partial(rate.fitted_settings, self))

    @cached_property
    def identity(self) -> Callable[[Plan], dict[str, Any]]:
        """The function plan -> the identity of a search: name, space, options and settings.

        A state and a checkpoint belong to one identity.
        """
        return cache(self._identity)

    def _identity(self, plan: Plan) -> dict[str, Any]:
        options = {origin.name: origin.options for origin in self.patch.origins}
        step = {"order": self.order, "alpha_split": self.alpha_split}
        step["hypergradient"] = getattr(
            self.hypergradient, "__qualname__", type(self.hypergradient).__name__
        )
        settings = {"weights": asdict(self.weights), "alphas": asdict(self.alpha_settings(plan))}
        return checks.in_json_types(
            {
                "method": self.name,
                "space": {"name": self.base.name, **self.base.spec()},
                **settings,
                **step,
                "options": options,
            }
        )

    # The course of a search.
    def start(
        self,
        *,
        seed: int,
        epochs: int,
        steps: int,
        images: tuple[int, int] = (0, 0),
        device: torch.device | str = "cpu",
        precision: str = "32",
        recompute: str = "none",
    ) -> State:
        """Return the state at the start of a search.

        Args:
            seed: Seed.
            epochs: Number of epochs.
            steps: Number of batches in one pass over the training half.
            images: Number of images of the training and of the validation half, for memories that
                keep something for each image.
            device: Device.
            precision: Precision of the forward pass, "32" or "bf16".
            recompute: Activations that the backward pass computes again: "none" or "cells".

        Raises:
            ValueError: A schedule does not fit the length, or an argument has another value.
        """
        self.check(epochs, steps)
        if precision not in ("32", "bf16"):
            raise unknown_name("precision", precision, ("32", "bf16"))
        if recompute not in ("none", "cells"):
            raise unknown_name("recompute", recompute, ("none", "cells"))
        plan = Plan(epochs, steps, images, self.alpha_split)
        state = State(
            seed,
            plan,
            torch.device(device_named(device)),
            precision,
            self.space,
            recompute=recompute,
        )
        self.build(state, self.space)
        for scalar in self.patch.scalars.values():
            # A wrong schedule raises an error here, before the first step.
            scalar(self.context(state, "readout"))
        return state

    def check(self, epochs: int, steps: int = 1) -> None:
        """Check that the schedules of this method fit the length of a search.

        Raises:
            ValueError: One of them does not.
        """
        if not all(isinstance(count, int) and count >= 1 for count in (epochs, steps)):
            raise ValueError(
                f"a search needs whole epochs, at least 1 of 1 step, not {short_repr(epochs)} of "
                f"{short_repr(steps)}"
            )
        begins = [stage.begin(epochs) for stage in self.stages]
        if len(set(begins)) < len(begins) or max(begins, default=0) >= epochs:
            set_by = dict.fromkeys(stage.set_by for stage in self.stages if stage.set_by)
            fewer = " and ".join(f"--{option}" for option in set_by)
            ways = f"more epochs, or fewer stages{f' by {fewer}' if fewer else ''}"
            raise ValueError(
                f"{self.name}: a search of {counted(epochs, 'epoch')} has no room for its "
                f"{len(begins)} stages: {ways}"
            )
        later = (stage.alpha_from for stage in self.stages if stage.alpha_from is not None)
        for length in (self.alpha_from, *later, *self.patch.lengths):
            length(epochs)

    def check_space(self) -> None:
        """Check that the method can search this space, without memory for the networks.

        It builds the networks of the method's stepper without their tensors. `start` would raise
        the same error later.

        Raises:
            ValueError: The space does not fit.
        """
        space = self.space
        if self.patch.stepper:  # the step of DARTS takes any space
            with torch.device("meta"):
                self.patch.stepper.nets(space)

    def build(self, state: State, space: Space) -> None:
        """Build networks, alphas and optimizers into a state.

        Nothing else builds them. It happens at the start, at a stage, and before a checkpoint is
        loaded.
        """
        process_memory.check_memory(space)
        state.space, state.identity = space, self.identity(state.plan)
        state.nets = self.stepper.nets(space)
        # Every network is initialised before any moves, because modules that two networks share
        # must not be initialised again on a GPU.
        for net in state.nets.values():
            initialise(net, state.seed)
        for net in state.nets.values():
            net.to(state.device).train()
        state.alphas = initial_alphas(
            space,
            dict(self.patch.extra_alphas),
            self.alpha_settings(state.plan).init,
            state.seed,
            state.device,
        )
        state.optimizers = self.stepper.optimizers(self, state)
        if not state.memory:
            state.memory = {name: make() for name, make in self.patch.memory.items()}
        state.born, state.dies = self._lifetime(state)
        for memory in state.memory.values():
            memory.bind(state)

    def _lifetime(self, state: State) -> tuple[int, int]:
        """Return the epochs at which the current supernet begins and ends."""
        epochs = state.plan.epochs
        renewed = {stage.begin(epochs) for stage in self.stages if not stage.continues}
        begins = sorted({0, *renewed, epochs})
        born = begins[-2]
        if state.epoch < epochs:
            born = max(begin for begin in begins[:-1] if begin <= state.epoch)
        return born, min(begin for begin in begins if begin > born)

    def begin_epoch(self, state: State) -> None:
        """Begin an epoch, with the stage that begins at it, if there is one.

        The space and the optimizers change here only.
        """
        checks.check_state(self, state)
        for stage in self.stages:
            if stage.begin(state.plan.epochs) == state.epoch:
                self._enter(state, stage)
        self.stepper.begin_epoch(self, state)
        state.sums, state.counts = {}, {}

    def _enter(self, state: State, stage: Stage) -> None:
        old = replace(state)
        self.build(state, stage.change(self, state))
        if stage.carry is not None:
            stage.carry(old, state)

    def step(self, state: State, train: Batch, val: Batch) -> Values:
        """Take one step of the search: alphas on ``val``, weights on ``train``.

        Args:
            state: State, whose ``step`` increases.
            train: Batch of training images.
            val: Batch of validation images.

        Returns:
            The metrics of the step, as scalar tensors.

        Raises:
            ValueError: The search has diverged. The message names the part that diverged first and
                the setting that drives it. It comes a few steps later at most.
        """
        if state.step == 0:  # once per epoch, because reading a label waits for the GPU
            for split, batch in (("train", train), ("val", val)):
                checks.check_batch(state.space, batch, split)
        values = self.stepper.step(self, state, train, val)
        state.add(values)
        state.step += 1
        if state.step % EVERY == 0:
            check_finite(self, state)
        return values

    def steps(self, state: State) -> int:
        """Return the number of steps of the current epoch."""
        return self.stepper.steps(self, state.plan, state.epoch)

    def steps_done(self, state: State) -> int:
        """Return the number of steps since the search began."""
        return (
            sum(self.stepper.steps(self, state.plan, epoch) for epoch in range(state.epoch))
            + state.step
        )

    def steps_left(self, state: State) -> int:
        """Return the number of steps that are left, with those of this epoch."""
        return (
            sum(
                self.stepper.steps(self, state.plan, epoch)
                for epoch in range(state.epoch, state.plan.epochs)
            )
            - state.step
        )

    def phase(self, state: State) -> str:
        """Return the name of the current phase, for the progress bar and the metrics."""
        return self.stepper.phase(self, state)

    def end_epoch(self, state: State, data: SearchData) -> dict[str, Any]:
        """End the epoch: show it to the memories, and move the state to the next epoch.

        Returns:
            The columns that the memories report.
        """
        context = self.context(state, "readout")
        reported = {
            key: value
            for memory in state.memory.values()
            for key, value in memory.after_epoch(self, state, data, context).items()
        }
        state.epoch, state.step = state.epoch + 1, 0
        return reported

    def finalise(self, state: State, data: SearchData) -> Iterator[Decision]:
        """Yield the decisions after the last epoch, and add them to ``state.decisions``.

        It goes on from the decisions that are already there.
        """
        finalise: Finalise | None = self.patch.finalise
        if finalise is not None:
            for decision in finalise(self, state, data, list(state.decisions)):
                check_finite(self, state)
                state.decisions.append(decision)
                yield decision

    # The values that the parts of a method read.
    def alpha_from(self, epochs: int) -> int:
        """Return the first epoch with alpha steps."""
        return (self.patch.alpha_from or epoch_at_share(0, of=1))(epochs)

    def moves_alphas(self, state: State) -> bool:
        """Return whether the current epoch has alpha steps."""
        return self.moves_alphas_in(self.progress(state).epoch, state.plan.epochs)

    def moves_alphas_in(self, epoch: int, epochs: int) -> bool:
        """Return whether an epoch of a search has alpha steps.

        It has none before `alpha_from`, or before the ``alpha_from`` of its stage.
        """
        begun = [stage for stage in self.stages if stage.begin(epochs) <= epoch]
        latest = max(begun, key=lambda stage: stage.begin(epochs), default=None)
        of_stage = latest.alpha_from if latest else None
        return epoch >= max(self.alpha_from(epochs), of_stage(epochs) if of_stage else 0)

    def progress(self, state: State) -> Progress:
        """Return the place in the run."""
        epoch = min(state.epoch, (state.ended or state.plan.epochs) - 1)
        return Progress(
            epoch,
            state.step,
            state.plan.epochs,
            self.steps(state),
            state.born,
            state.dies,
            past=state.epoch - epoch,
        )

    def context(self, state: State, phase: str) -> Context:
        """Return the context of a phase: "weight", "alpha" or "readout"."""
        init = self.alpha_settings(state.plan).init
        return Context(
            state.space.groups,
            self.progress(state),
            phase,
            state.memory,
            state.seed,
            init,
            self.limits,
        )

    def mixture(self, alphas: Alphas, context: Context) -> Mixture:
        """Return the mixture of alphas: the relaxation, and then the reshapes in order.

        In the readout phase the patch's ``readout``, if it has one, replaces its ``relax``.
        """
        relax = (self.patch.readout or self.relax) if context.phase == "readout" else self.relax
        mixture = relax(alphas, context)
        for reshape in self.patch.reshape:
            mixture = reshape(mixture, alphas, context)
        return mixture

    @torch.no_grad()
    def readout(self, state: State) -> Mixture:
        """Return the mixture that discretisation reads.

        Raises:
            ValueError: The search has diverged.
        """
        check_finite(self, state)
        return self.mixture(state.alphas, self.context(state, "readout"))

    def genotype(self, state: State) -> Genotype:
        """Return the genotype that is selected now, or the last decision of the finalisation."""
        return state.decisions[-1].genotype if state.decisions else self.selected_genotype(state)

    @torch.no_grad()
    def selected_genotype(self, state: State, limits: Limits | None = None) -> Genotype:
        """Return the genotype that is selected from the current alphas.

        The alphas are read in float64, because a cold softmax in float32 rounds ops and edges to 0
        and 1, so that their order is lost.

        Args:
            state: State.
            limits: Limits of the cost; None: those of the method.

        Raises:
            ValueError: The search has diverged, or no genotype is within the limits.
        """
        check_finite(self, state)
        exact = {name: rows.double() for name, rows in state.alphas.items()}
        mixture = self.mixture(exact, self.context(state, "readout"))
        return self.select(mixture, state.space.groups, self.limits if limits is None else limits)


Method.__init__ = named_if_wrong(Method.__init__)  # type: ignore[method-assign]
