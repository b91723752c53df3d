"""Loaders and training, as a user has them already: nothing here knows of archgrad."""

import torch
from torch.utils.data import DataLoader, TensorDataset


def loader(inputs, targets, batch):
    """Return batches in a new random order each epoch, the same in each run."""
    order = torch.Generator().manual_seed(0)
    data = TensorDataset(inputs, targets)
    return DataLoader(data, batch, shuffle=True, drop_last=True, generator=order)


def trained(network, batches, loss, epochs, rate=3e-3):
    """Return the network after a training by AdamW."""
    optimizer = torch.optim.AdamW(network.parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, epochs * len(batches))
    for _ in range(epochs):
        for inputs, targets in batches:
            optimizer.zero_grad()
            loss(network(inputs), targets).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


@torch.no_grad()
def accuracy(network, inputs, targets):
    """Return the share of inputs whose class is right."""
    return (network(inputs).argmax(1) == targets).float().mean().item()
