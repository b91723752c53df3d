"""Search a segmentation network with a Dice loss on the two sample photos of scikit-learn.

    python examples/own_module/segmentation.py

Nobody has drawn masks of these photos, so a rule makes them: a pixel belongs to the mask if it has
more red than blue. The network sees the photo in grey, and must find the warm areas by their
texture. It trains on the left three fifths of both photos, and is tested on the rest.
"""
import torch, torch.nn.functional as F
from torch import nn
import archgrad, numpy as np
from sklearn.datasets import load_sample_images

SIDE=32
def crops():
    """Return grey crops (N, 1, 32, 32) of both photos and their masks, of the left and the right."""
    photos = torch.from_numpy(np.stack(load_sample_images().images)).permute(0, 3, 1, 2) / 255.0
    grey, mask = photos.mean(1, keepdim=True) - 0.5, (photos[:, :1] > photos[:, 2:]).float()
    tiles = torch.cat([grey, mask], 1).unfold(2, SIDE, SIDE).unfold(3, SIDE, SIDE)  # (2,2,rows,cols,S,S)
    print(tiles.shape, mask.mean((1,2,3)))
crops()
