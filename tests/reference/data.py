"""Pictures as a PyTorch user loads them: files decoded, resized and augmented by the workers of a DataLoader.

The augmentations are the trainer's kinds (flips, affine, brightness, contrast, saturation, gamma, noise), written with
Pillow, which does them in C. Workers hand out bytes; noise and the step to -1..1 are done on whole batches, on the device.
"""

import math
import random
from pathlib import Path

import numpy
import torch
from PIL import Image, ImageEnhance
from torch.utils.data import DataLoader, Dataset

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}


class Pictures(Dataset):
    """Views [views, side, side, 3] of each of the first `number` pictures of a folder, bytes. `keep` holds the
    decoded pictures in memory, as the trainer does, in place of reading them again each epoch."""

    def __init__(self, folder, config, number, keep=False):
        self.files = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in SUFFIXES)[:number]
        self.side, self.views = config["input"]["size"], config["train"]["views"]
        self.augment = config["augment"]
        self.kept = [self.read(path) for path in self.files] if keep else None

    def __len__(self):
        return len(self.files)

    def read(self, path):
        with Image.open(path) as image:
            return image.convert("RGB").resize((self.side, self.side), Image.Resampling.BILINEAR)

    def __getitem__(self, i):
        image = self.kept[i] if self.kept else self.read(self.files[i])
        return i, torch.from_numpy(numpy.stack([numpy.asarray(self.view(image)) for _ in range(self.views)]))

    def view(self, image):
        a, side = self.augment, self.side

        def signed(reach):
            return random.uniform(-reach, reach)

        angle, zoom = math.radians(signed(a["rotate_degrees"])), 1 + signed(a["scale"])
        x = (-1 if random.random() < a["hflip"] else 1) / zoom
        y = (-1 if random.random() < a["vflip"] else 1) / zoom
        matrix = (math.cos(angle) * x, -math.sin(angle) * y, math.sin(angle) * x, math.cos(angle) * y)
        shift = (signed(a["translate"]) * side, signed(a["translate"]) * side)
        if matrix != (1, 0, 0, 1) or shift != (0, 0):
            c = (side - 1) / 2
            left = c - matrix[0] * c - matrix[1] * c + shift[0]
            top = c - matrix[2] * c - matrix[3] * c + shift[1]
            data = (matrix[0], matrix[1], left, matrix[2], matrix[3], top)
            image = image.transform(image.size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
        for kind, reach in (
            (ImageEnhance.Brightness, a["brightness"]),
            (ImageEnhance.Contrast, a["contrast"]),
            (ImageEnhance.Color, a["saturation"]),
        ):
            if reach > 0:
                image = kind(image).enhance(1 + signed(reach))
        if a["gamma"] > 0:
            gamma = math.exp(signed(math.log(1 + a["gamma"])))
            image = image.point([round(255 * (v / 255) ** gamma) for v in range(256)] * 3)
        return image


def collate(samples):
    indices, views = zip(*samples)
    # [views * b, side, side, 3], the first views of all images first.
    return torch.tensor(indices), torch.stack(views, 1).flatten(0, 1)


def loader(pictures, config, workers, cuda):
    return DataLoader(
        pictures,
        batch_size=config["train"]["batch_size"],
        shuffle=True,
        num_workers=workers,
        collate_fn=collate,
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers > 0 else None,
        pin_memory=cuda,
    )


def to_input(views, config, device):
    """Bytes [n, side, side, 3] to network input on the device, [n, channels, side, side] in -1..1, channels last."""
    images = views.to(device, non_blocking=True).float()
    if config["input"]["channels"] == 1:
        images = (images * torch.tensor([0.299, 0.587, 0.114], device=device)).sum(3, keepdim=True)
    if config["augment"]["noise"] > 0:
        sigma = torch.rand(len(images), 1, 1, 1, device=device) * config["augment"]["noise"] * 255
        images = images.add_(torch.randn_like(images).mul_(sigma)).clamp_(0, 255)
    return images.div_(127.5).sub_(1).permute(0, 3, 1, 2)
