"""Import official code from checkouts that the user names, and run it as its own scripts do.

None of that code is copied here. It was written for a GPU and for torchvision. So while it runs,
``.cuda()`` returns its object unchanged. A torchvision that is not installed is replaced by an
empty stand-in, which nothing here uses.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock, patch

import torch
from torch import Tensor, nn

from archgrad.arch.passes import Batch

PEERS = {
    "quark0": "https://github.com/quark0/darts",
    "autodl": "https://github.com/D-X-Y/AutoDL-Projects",
}


def arguments(description: str) -> argparse.ArgumentParser:
    """Return a parser with the option ``--peer NAME=PATH``, which may be given once per peer."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        type=_peer,
        metavar="NAME=PATH",
        help="name of a peer and the path of its checkout; "
        + ", ".join(f"{name} is {address}" for name, address in PEERS.items()),
    )
    return parser


def _peer(text: str) -> tuple[str, Path]:
    name, _, path = text.partition("=")
    if name not in PEERS or not Path(path).is_dir():
        raise argparse.ArgumentTypeError(
            f"{text!r} is not NAME=PATH with NAME one of {', '.join(PEERS)} "
            "and PATH a checkout of it"
        )
    return name, Path(path).resolve()


def commit(path: Path) -> str:
    """Return the commit of a checkout."""
    return subprocess.run(
        ["git", "-C", str(path), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()


@contextmanager
def on_cpu() -> Iterator[None]:
    """Let ``.cuda()`` of tensors and modules do nothing."""
    warnings.filterwarnings("ignore", "This overload of", UserWarning)
    with (
        patch.object(Tensor, "cuda", lambda self, *_, **__: self),
        patch.object(nn.Module, "cuda", lambda self, *_, **__: self),
    ):
        yield


def quark0(path: Path) -> SimpleNamespace:
    """Return the modules ``search``, ``architect``, ``model`` and ``genotypes`` of quark0/darts."""
    names = {
        "search": "model_search",
        "architect": "architect",
        "model": "model",
        "genotypes": "genotypes",
    }
    return SimpleNamespace(**dict(zip(names, _imported(path / "cnn", names.values()))))


def autodl(path: Path) -> SimpleNamespace:
    """Return the parts of D-X-Y/AutoDL-Projects that the benchmarks use.

    ``TinyNetworkDarts`` is the supernet and ``TinyNetwork`` the derived network. ``Structure`` is
    the genotype, and ``optimizers`` a module.
    """
    models = "xautodl.models."
    searchs, infers = _imported(
        path, (models + "cell_searchs", models + "cell_infers.tiny_network")
    )
    spec = importlib.util.spec_from_file_location(
        "autodl_optimizers", path / "xautodl" / "procedures" / "optimizers.py"
    )
    assert spec is not None and spec.loader is not None
    optimizers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(optimizers)
    supernet = searchs.nas201_super_nets["DARTS-V1"]
    return SimpleNamespace(
        TinyNetworkDarts=supernet,
        TinyNetwork=infers.TinyNetwork,
        Structure=searchs.CellStructure,
        optimizers=optimizers,
    )


def _imported(folder: Path, names: Iterable[str]) -> list[ModuleType]:
    """Import modules of a checkout, and remove their names (``utils``, ``model``) afterwards."""
    before = set(sys.modules)
    stand_ins = (
        []
        if importlib.util.find_spec("torchvision")
        else ["torchvision", "torchvision.transforms", "torchvision.datasets"]
    )
    sys.modules.update({name: MagicMock() for name in stand_ins})
    sys.path.insert(0, str(folder))
    try:
        modules = [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(str(folder))
        own = [name for name in set(sys.modules) - before if (folder / f"{name}.py").exists()]
        for name in (*stand_ins, *own):
            sys.modules.pop(name, None)
    return modules


Step = Callable[[Batch, Batch], None]


def quark0_step(peer: SimpleNamespace, network: nn.Module, *, unrolled: bool = False) -> Step:
    """Return a step of train_search.py at its defaults, in the first epoch.

    It is the architect's step, then SGD with clipping.
    """
    lr, momentum, decay = 0.025, 0.9, 3e-4
    weights = list(network.parameters())
    optimizer = torch.optim.SGD(weights, lr, momentum=momentum, weight_decay=decay)
    settings = SimpleNamespace(
        momentum=momentum, weight_decay=decay, arch_learning_rate=3e-4, arch_weight_decay=1e-3
    )
    architect = peer.architect.Architect(network, settings)
    criterion = nn.CrossEntropyLoss()

    def step(train: Batch, val: Batch) -> None:
        with on_cpu():
            architect.step(
                train.images, train.labels, val.images, val.labels, lr, optimizer, unrolled=unrolled
            )
            optimizer.zero_grad()
            criterion(network(train.images), train.labels).backward()
            nn.utils.clip_grad_norm_(weights, 5.0)
            optimizer.step()

    return step


def autodl_step(
    peer: SimpleNamespace, network: nn.Module, epoch: Callable[[], int] = lambda: 0
) -> Step:
    """Return a step of exps/NATS-algos/search-cell.py with ``--algo darts-v1``.

    At its configuration it is SGD, then the step of the alphas, without clipping.
    """
    config = SimpleNamespace(
        optim="SGD", LR=0.025, eta_min=0.001, epochs=50, warmup=0, decay=5e-4, momentum=0.9,
        nesterov=True, scheduler="cos", criterion="Softmax",
    )  # fmt: skip
    optimizer, scheduler, criterion = peer.optimizers.get_optim_scheduler(
        network.get_weights(), config
    )
    of_alphas = torch.optim.Adam(
        network.get_alphas(), lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3
    )

    def step(train: Batch, val: Batch) -> None:
        scheduler.update(epoch(), 0.0)
        for batch, stepped in ((train, optimizer), (val, of_alphas)):
            network.zero_grad()
            criterion(network(batch.images)[1], batch.labels).backward()
            stepped.step()

    return step
