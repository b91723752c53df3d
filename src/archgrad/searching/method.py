"""A method: a complete patch over a space. It starts, steps, reads off and finalises a search, and knows nothing of the loop."""

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
from archgrad.arch.passes import Batch, Loss
from archgrad.arch.space import AlphaSettings, Space, WeightSettings
from archgrad.components.context import Context, Progress
from archgrad.components.hypergradient import Hypergradient, first_order
from archgrad.components.losses import Term, of_labels, task
from archgrad.components.relax import softmax
from archgrad.components.schedules import share
from archgrad.components.select import strongest
from archgrad.cost import room
from archgrad.cost.limits import Limits
from archgrad.devices import device_named
from archgrad.errors import counted, shown, unknown
from archgrad.searching import checks, rate
from archgrad.searching.finite import EVERY, check
from archgrad.searching.patch import Patch
from archgrad.searching.start import normal_alphas, seeded
from archgrad.searching.steps import Bilevel
from archgrad.searching.types import (
    Data,
    Decision,
    Finalise,
    Perturb,
    Plan,
    Relaxation,
    Reshape,
    Select,
    Stage,
    State,
    Stepper,
    Values,
)
from archgrad.spaces import space_of

S = TypeVar("S", WeightSettings, AlphaSettings)


class Made(NamedTuple):
    """The names and options that a method was made of, and ``again``, which makes it of them; ``patch`` and ``space`` are what came of it."""

    again: Callable[..., Method]
    name: str
    given: Mapping[str, Any]
    patch: Patch
    space: Space


@dataclass(frozen=True)
class Method:
    """A patch whose gaps are filled with DARTS as its space knows it (`Space.defaults`)."""

    patch: Patch
    base: Space
    published: rate.Published | None = (
        None  # what alphas.lr is fitted to a search's length by; None: it is as the patch has it
    )
    made: Made | None = field(default=None, compare=False)  # how `archgrad.method` made it

    def __post_init__(self) -> None:
        object.__setattr__(self, "base", space_of(self.base))
        self._check_presets()
        unread = self.patch.sets() - self.stepper.reads
        if unread:
            names = ", ".join(sorted(unread))
            raise ValueError(
                f"{self.name}: its stepper does not read {names}; leave out the method or the option that sets it"
            )
        for what, choices in (
            ("order", ("alpha_first", "weight_first")),
            ("alpha_split", ("val", "train")),
        ):
            if (given := getattr(self, what)) not in choices:
                raise unknown(what, given, choices)
        for settings in ("weights", "alphas", "space"):
            getattr(self, settings)  # what cannot be is refused now

    def _check_presets(self) -> None:
        """ValueError where a method was made without the options that its presets have in this space: its numbers would be others."""
        for origin in self.patch.origins:
            if other := origin.differs(self.base.name):
                names = "+".join(dict.fromkeys(one.name for one in self.patch.origins))
                options = ", ".join(
                    f"{name} {value!r} (not {origin.options[name]!r})"
                    for name, value in other.items()
                )
                raise ValueError(
                    f"{origin.name} has other options in space {self.base.name}: {options}; make it by archgrad.method({names!r}, space, "
                    "patches=[...]), which knows them and takes patches of yours, or say these options yourself"
                )

    def __repr__(self) -> str:
        return f"<Method {self.name} over space {self.base.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """As names and options: functions within a patch cannot be pickled. ValueError for a method that was put together otherwise."""
        made = self.made
        if made is None or made.patch is not self.patch or made.space is not self.base:
            raise ValueError(
                f"method {self.name!r} cannot be pickled: pickle what it is made of, names and options, and make it there again"
            )
        return made.again, (made.name, self.base, dict(made.given))

    def changed(self, **fields: Any) -> Method:
        """Return the same method with other fields of its patch."""
        return replace(self, patch=replace(self.patch, **fields))

    # What the patch says, or DARTS.
    name = property(lambda self: self.patch.name)

    @cached_property
    def space(self) -> Space:
        """The space as the patch wants it (PC-DARTS: partial channels); stages start from it. ValueError if it cannot be so."""
        try:
            return self.base.resized(**self.patch.space) if self.patch.space else self.base
        except ValueError as error:
            raise ValueError(
                f"{self.name} does not fit space {self.base.name!r}: {error}"
            ) from None

    @property
    def stepper(self) -> Stepper:
        return self.patch.stepper or Bilevel()

    @property
    def relax(self) -> Relaxation:
        return self.patch.relax or softmax

    @property
    def select(self) -> Select:
        return self.patch.select or strongest

    @property
    def reshape(self) -> tuple[Reshape, ...]:
        return self.patch.reshape

    @property
    def loss(self) -> Loss:
        return self.patch.loss or of_labels

    @property
    def weight_terms(self) -> tuple[Term, ...]:
        return (task, *self.patch.weight_terms)

    @property
    def alpha_terms(self) -> tuple[Term, ...]:
        return (task, *self.patch.alpha_terms)

    @property
    def train_alpha_terms(self) -> tuple[Term, ...]:
        return self.patch.train_alpha_terms

    @property
    def hypergradient(self) -> Hypergradient:
        return self.patch.hypergradient or first_order

    @property
    def alpha_split(self) -> str:
        return self.patch.alpha_split or "val"

    @property
    def stages(self) -> tuple[Stage, ...]:
        return self.patch.stages or ()

    @property
    def limits(self) -> Limits:
        return self.patch.limits

    @property
    def perturb(self) -> Perturb | None:
        return self.patch.perturb

    @property
    def order(self) -> str:
        return self.patch.order or self.base.defaults.order

    @cached_property
    def weights(self) -> WeightSettings:
        return self._settings("weights", self.base.defaults.weights)

    @cached_property
    def alphas(self) -> AlphaSettings:
        """As the patch has them; those of a search are `alpha_settings`."""
        return self._settings("alphas", self.base.defaults.alphas)

    def _settings(self, name: str, usual: S) -> S:
        """The settings of one optimizer. ValueError for one that is unknown, of another type, or out of range."""
        given = options.values(
            f"{self.name}: {name}", options.model(type(usual)), getattr(self.patch, name)
        )
        return replace(usual, **given)  # type: ignore[type-var]

    @cached_property
    def alpha_settings(self) -> Callable[[Plan], AlphaSettings]:
        """The alphas' settings in a search of a length (`archgrad.searching.rate.settings`): asked in every pass, and so remembered."""
        return cache(partial(rate.settings, self))

    @cached_property
    def identity(self) -> Callable[[Plan], dict[str, Any]]:
        """What a search of a length is of: name, space, options and settings. A state and a checkpoint belong to one identity."""
        return cache(self._identity)

    def _identity(self, plan: Plan) -> dict[str, Any]:
        options = {origin.name: origin.options for origin in self.patch.origins}
        step = {"order": self.order, "alpha_split": self.alpha_split}
        step["hypergradient"] = getattr(
            self.hypergradient, "__qualname__", type(self.hypergradient).__name__
        )
        settings = {"weights": asdict(self.weights), "alphas": asdict(self.alpha_settings(plan))}
        return checks.plain(
            {
                "method": self.name,
                "space": {"name": self.base.name, **self.base.spec()},
                **settings,
                **step,
                "options": options,
            }
        )

    # A search.
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
        """A state at epoch 0 of ``epochs``; ``steps`` batches are a pass over the training half; ``images`` of the training and the validation
        half, for what remembers each of them. ValueError where a schedule does not fit the length."""
        self.check(epochs, steps)
        if precision not in ("32", "bf16"):
            raise unknown("precision", precision, ("32", "bf16"))
        if recompute not in ("none", "cells"):
            raise unknown("recompute", recompute, ("none", "cells"))
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
            scalar(
                self.context(state, "readout")
            )  # a schedule that cannot be is refused before the first step
        return state

    def check(self, epochs: int, steps: int = 1) -> None:
        """ValueError where a schedule of this method does not fit the length."""
        if not all(isinstance(count, int) and count >= 1 for count in (epochs, steps)):
            raise ValueError(
                f"a search needs whole epochs, at least 1 of 1 step, not {shown(epochs)} of {shown(steps)}"
            )
        begins = [stage.begin(epochs) for stage in self.stages]
        if len(set(begins)) < len(begins) or max(begins, default=0) >= epochs:
            fewer = " and ".join(
                f"--{option}"
                for option in dict.fromkeys(stage.set_by for stage in self.stages)
                if option
            )
            ways = f"more epochs, or fewer stages{f' by {fewer}' if fewer else ''}"
            raise ValueError(
                f"{self.name}: a search of {counted(epochs, 'epoch')} has no room for its {len(begins)} stages: {ways}"
            )
        later = (stage.alpha_from for stage in self.stages if stage.alpha_from is not None)
        for length in (self.alpha_from, *later, *self.patch.lengths):
            length(epochs)

    def check_space(self) -> None:
        """ValueError where the space is not for this method. Builds its networks, without their memory: `start` would say the same, later."""
        space = self.space
        if self.patch.stepper:  # DARTS's own step takes any space
            with torch.device("meta"):
                self.patch.stepper.nets(space)

    def build(self, state: State, space: Space) -> None:
        """The one door through which nets, alphas and optimizers come to be: at the start, at a stage, and before a state is loaded."""
        room.check(space)
        state.space, state.identity = space, self.identity(state.plan)
        state.nets = self.stepper.nets(space)
        for net in (
            state.nets.values()
        ):  # all drawn before any moves: what two nets share must not be drawn again on a GPU
            seeded(net, state.seed)
        for net in state.nets.values():
            net.to(state.device).train()
        state.alphas = normal_alphas(
            space,
            dict(self.patch.extra_alphas),
            self.alpha_settings(state.plan).init,
            state.seed,
            state.device,
        )
        state.optimizers = self.stepper.optimizers(self, state)
        if not state.memory:
            state.memory = {name: make() for name, make in self.patch.memory.items()}
        begins = sorted(
            {
                0,
                *(stage.begin(state.plan.epochs) for stage in self.stages if not stage.continues),
                state.plan.epochs,
            }
        )
        state.born = (
            max(begin for begin in begins[:-1] if begin <= state.epoch)
            if state.epoch < state.plan.epochs
            else begins[-2]
        )
        state.dies = min(begin for begin in begins if begin > state.born)
        for memory in state.memory.values():
            memory.bind(state)

    def begin_epoch(self, state: State) -> None:
        """The only place where space, depth or optimizers change: applies the stage that begins with this epoch, if there is one."""
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
        """One step of the search: alphas on ``val``, weights on ``train``. Scalar tensors for the metrics; moves ``state.step``.

        ValueError, some steps later at most, if the search has diverged: names what did, and the setting that drives it."""
        if state.step == 0:  # once an epoch: reading a label off a GPU waits for it
            for split, batch in (("train", train), ("val", val)):
                checks.check_batch(state.space, batch, split)
        values = self.stepper.step(self, state, train, val)
        state.add(values)
        state.step += 1
        if state.step % EVERY == 0:
            check(self, state)
        return values

    def steps(self, state: State) -> int:
        """Steps of the current epoch."""
        return self.stepper.steps(self, state.plan, state.epoch)

    def done(self, state: State) -> int:
        """Steps taken since the search began."""
        return (
            sum(self.stepper.steps(self, state.plan, epoch) for epoch in range(state.epoch))
            + state.step
        )

    def left(self, state: State) -> int:
        """Steps to come, this epoch's among them."""
        return (
            sum(
                self.stepper.steps(self, state.plan, epoch)
                for epoch in range(state.epoch, state.plan.epochs)
            )
            - state.step
        )

    def phase(self, state: State) -> str:
        return self.stepper.phase(self, state)

    def end_epoch(self, state: State, data: Data) -> dict[str, Any]:
        """Lets the memories see the epoch; what they report. Moves the state to the next epoch."""
        context = self.context(state, "readout")
        reported = {
            key: value
            for memory in state.memory.values()
            for key, value in memory.after_epoch(self, state, data, context).items()
        }
        state.epoch, state.step = state.epoch + 1, 0
        return reported

    def finalise(self, state: State, data: Data) -> Iterator[Decision]:
        """What the method does after the last epoch; goes on from ``state.decisions`` and adds to them."""
        finalise: Finalise | None = self.patch.finalise
        if finalise is not None:
            for decision in finalise(self, state, data, list(state.decisions)):
                check(self, state)
                state.decisions.append(decision)
                yield decision

    # What the pieces see.
    def alpha_from(self, epochs: int) -> int:
        """First epoch with alpha steps."""
        return (self.patch.alpha_from or share(0, of=1))(epochs)

    def moves_alphas(self, state: State) -> bool:
        """Whether the current epoch has alpha steps."""
        return self.moves_alphas_in(self.progress(state).epoch, state.plan.epochs)

    def moves_alphas_in(self, epoch: int, epochs: int) -> bool:
        """Whether an epoch of so many has alpha steps: not before `alpha_from`, nor before that of the stage it is in."""
        begun = [stage for stage in self.stages if stage.begin(epochs) <= epoch]
        latest = max(begun, key=lambda stage: stage.begin(epochs), default=None)
        own = latest.alpha_from if latest else None
        return epoch >= max(self.alpha_from(epochs), own(epochs) if own else 0)

    def progress(self, state: State) -> Progress:
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
        """alphas -> relax -> reshapes; the readout phase reads ``readout`` instead of ``relax`` where the patch has one."""
        relax = (self.patch.readout or self.relax) if context.phase == "readout" else self.relax
        mixture = relax(alphas, context)
        for reshape in self.reshape:
            mixture = reshape(mixture, alphas, context)
        return mixture

    @torch.no_grad()
    def readout(self, state: State) -> Mixture:
        """The mixture that discretisation reads. ValueError if the search has diverged, as of `selected`."""
        check(self, state)
        return self.mixture(state.alphas, self.context(state, "readout"))

    def genotype(self, state: State) -> Genotype:
        """What would be derived now; after the finalisation, what it decided."""
        return state.decisions[-1].genotype if state.decisions else self.selected(state)

    @torch.no_grad()
    def selected(self, state: State, limits: Limits | None = None) -> Genotype:
        """What the alphas say within ``limits``, by default its own. They are read in float64: ops and edges that a cold softmax rounds to 0
        and 1 in float32 still have their order. ValueError if the search has diverged."""
        check(self, state)
        exact = {name: rows.double() for name, rows in state.alphas.items()}
        mixture = self.mixture(exact, self.context(state, "readout"))
        return self.select(mixture, state.space.groups, self.limits if limits is None else limits)
