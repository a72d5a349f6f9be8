"""Train both classifiers on scikit-learn's handwritten digits and write what the ship files name.

The data set has 1,797 images of 8x8 pixels (UCI Optical Recognition of Handwritten Digits). The
first 1,257 train, the last 540 test; they come from different writers, so the order is kept.
Everything is seeded: two runs on one machine give the same weights.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from deformable import DeformableDigits
from model import DigitsNet
from sklearn.datasets import load_digits
from torch import Tensor, nn

TRAIN, BATCH = 1257, 64
DATA = Path(__file__).parent / "data"


def shift(images: Tensor, generator: torch.Generator) -> Tensor:
    """Move a batch by up to one pixel in each direction."""
    down, right = torch.randint(-1, 2, (2,), generator=generator).tolist()
    padded = F.pad(images, (1, 1, 1, 1))
    return padded[:, :, 1 + down : 9 + down, 1 + right : 9 + right]


def train(make: type[nn.Module], epochs: int, images: Tensor, labels: Tensor) -> nn.Module:
    """Train a network; ten to twenty seconds on two cores."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    net = make()
    steps = epochs * -(-len(images) // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(images), generator=generator).split(BATCH):
            scores = net(shift(images[batch], generator))
            loss = F.cross_entropy(scores, labels[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def main() -> None:
    """Train, save, and say how good they are."""
    digits = load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32)[:, None]
    labels = torch.tensor(digits.target)
    DATA.mkdir(exist_ok=True)
    np.savez(DATA / "test.npz", x=images[TRAIN:].numpy(), y=labels[TRAIN:].numpy())
    for name, make, epochs in (("digits", DigitsNet, 60), ("deformable", DeformableDigits, 25)):
        net = train(make, epochs, images[:TRAIN], labels[:TRAIN])
        with torch.no_grad():
            correct = int((net(images[TRAIN:]).argmax(1) == labels[TRAIN:]).sum())
        torch.save(net.state_dict(), DATA / f"{name}.pth")
        total = len(images) - TRAIN
        print(f"{name}: trained on {TRAIN} images; {correct} of {total} test images right")


if __name__ == "__main__":
    main()
