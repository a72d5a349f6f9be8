"""A data set: samples that are read one at a time, their labels, and a digest that names it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from shipway.errors import DatasetError, TensorError
from shipway.evaluate.folder import LABEL_FILE, read_class_folders, read_label_file
from shipway.evaluate.images import decode_image
from shipway.evaluate.preprocess import PRESETS, Preprocess
from shipway.tensorfiles import read_tensors
from shipway.tensors import dtype_named

__all__ = ["ArrayDataset", "Dataset", "ImageDataset", "load_dataset"]


class Dataset(Protocol):
    """What `evaluate_session` needs of a data set. `sample` is called from several threads at once."""

    @property
    def name(self) -> str:
        """Where the samples come from."""

    @property
    def preprocess(self) -> Preprocess:
        """How a sample is made; its text goes into the report."""

    @property
    def ids(self) -> tuple[str, ...]:
        """A unique name for each sample."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """The class of each sample, from 0; shape (samples,)."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know, say how many images have no label; one sentence each."""

    def __len__(self) -> int: ...

    def sample(self, index: int) -> NDArray[Any]:
        """Read one sample, without a batch axis.

        Raises:
            DatasetError: It cannot be read. The message is "id: reason".
        """

    def subset(self, count: int) -> Dataset:
        """Return `count` samples spread evenly over this data set (all of them if it is smaller)."""

    def digest(self) -> str:
        """Return the hex SHA-256 over ids, labels, contents and preprocessing."""


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Image files with labels; see `Dataset`."""

    name: str
    preprocess: Preprocess
    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    paths: tuple[Path, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def sample(self, index: int) -> NDArray[Any]:
        """Decode and preprocess one image; see `Dataset.sample`."""
        try:
            return self.preprocess.apply(decode_image(self.paths[index].read_bytes()))
        except OSError as error:
            raise DatasetError(f"{self.ids[index]}: {error.strerror}") from error
        except DatasetError as error:
            raise DatasetError(f"{self.ids[index]}: {error}") from error

    def subset(self, count: int) -> Self:
        """Return evenly spread samples; see `Dataset.subset`."""
        picked = _spread(len(self), count)
        return dataclasses.replace(
            self,
            ids=tuple(self.ids[index] for index in picked),
            labels=self.labels[picked],
            paths=tuple(self.paths[index] for index in picked),
        )

    def digest(self) -> str:
        """Hash every file, the first time it is asked for; see `Dataset.digest`."""
        return self._digest

    @functools.cached_property
    def _digest(self) -> str:
        return _digest_of(self, (_file_digest(path) for path in self.paths))


@dataclass(frozen=True, eq=False)
class ArrayDataset:
    """Samples and labels from arrays; see `Dataset`.

    Args:
        name: Where they come from.
        preprocess: The preset "none", or one of scale, mean and std only.
        ids: A unique name for each sample.
        labels: Shape (samples,).
        values: Shape (samples, ...), any numeric dtype.
        notes: See `Dataset.notes`.
    """

    name: str
    preprocess: Preprocess
    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    values: NDArray[Any]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def sample(self, index: int) -> NDArray[Any]:
        """Return one sample, scaled if the preprocessing says so; see `Dataset.sample`."""
        try:
            return self.preprocess.apply_array(self.values[index])
        except DatasetError as error:
            raise DatasetError(f"{self.ids[index]}: {error}") from error

    def subset(self, count: int) -> Self:
        """Return evenly spread samples; see `Dataset.subset`."""
        picked = _spread(len(self), count)
        return dataclasses.replace(
            self,
            ids=tuple(self.ids[index] for index in picked),
            labels=self.labels[picked],
            values=self.values[picked],
        )

    def digest(self) -> str:
        """Hash the values, the first time it is asked for; see `Dataset.digest`."""
        return self._digest

    @functools.cached_property
    def _digest(self) -> str:
        values = np.ascontiguousarray(self.values)
        content = hashlib.sha256(values.reshape(-1).view(np.uint8).data).hexdigest()
        return _digest_of(self, [f"{values.dtype.name} {values.shape} {content}"])


def _spread(size: int, count: int) -> list[int]:
    """Pick indices evenly: class folders are sorted by class, so the first ones say little."""
    return [index * size // count for index in range(count)] if count < size else list(range(size))


def _digest_of(dataset: ImageDataset | ArrayDataset, contents: Iterable[str]) -> str:
    digest = hashlib.sha256(str(dataset.preprocess).encode())
    for part in (dataset.ids, dataset.labels.tolist(), list(contents)):
        digest.update(json.dumps(part).encode() + b"\n")
    return digest.hexdigest()


def _file_digest(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        return f"unreadable: {error.strerror}"  # counted as a bad sample when its turn comes


def load_dataset(
    path: Path, *, labels: Path | None = None, preprocess: Preprocess | None = None
) -> Dataset:
    """Open a data set.

    Args:
        path: A folder of images with a label file of "name label" lines; a folder with one folder
            per class (the sorted names are classes 0, 1, ...); or an .npz file with arrays `x` (one
            sample a row) and `y` (whole numbers).
        labels: The label file; labels.txt in the folder unless given. With neither, the folders
            are the classes.
        preprocess: How a sample is made. Needed for images; arrays pass as they are without it.

    Raises:
        DatasetError: Something is absent, empty or not understood. No image is decoded yet.
    """
    if path.is_file() and path.suffix.lower() == ".npz":
        return _load_arrays(path, labels, preprocess or PRESETS["none"])
    if not path.is_dir():
        problem = "is neither a folder nor an .npz file" if path.exists() else "does not exist"
        raise DatasetError(
            f"The data set {path} {problem}.",
            hint="Give a folder of images, or an .npz file with arrays x and y.",
        )
    return _load_images(path, labels, preprocess)


def _load_images(folder: Path, labels: Path | None, preprocess: Preprocess | None) -> Dataset:
    if preprocess is None:
        raise DatasetError(
            f"Nothing says how the images of {folder} become the model's input.",
            hint="Say it as in training, e.g. --preprocess imagenet-bicubic (or a line of steps).",
        )
    label_file = labels or folder / LABEL_FILE
    if labels is not None or label_file.exists():
        found = read_label_file(label_file, folder)
    else:
        found = read_class_folders(folder)
    if not found.ids:
        raise DatasetError(f"The data set {folder} is empty: no labelled image.")
    return ImageDataset(
        name=str(folder),
        preprocess=preprocess,
        ids=found.ids,
        labels=np.array(found.labels, dtype=np.int64),
        paths=found.paths,
        notes=found.notes,
    )


def _load_arrays(path: Path, labels: Path | None, preprocess: Preprocess) -> Dataset:
    if labels is not None:
        raise DatasetError(
            f"{path} has its labels in array y; {labels} has no use.", hint="Leave --labels out."
        )
    if preprocess.image_steps:
        raise DatasetError(
            f"The arrays of {path} cannot take {', '.join(preprocess.image_steps)}: only images can.",
            hint="For arrays give scale, mean, std and layout only, or none.",
        )
    values, classes = _read_arrays(path)
    ids = tuple(str(index) for index in range(len(values)))
    return ArrayDataset(str(path), preprocess, ids, classes, values)


def _read_arrays(path: Path) -> tuple[NDArray[Any], NDArray[np.int64]]:
    try:
        arrays = read_tensors(path)
    except TensorError as error:
        raise DatasetError(str(error)) from error
    if missing := sorted({"x", "y"} - arrays.keys()):
        raise DatasetError(
            f"{path} has no array {' and no '.join(missing)}; it has {_names(arrays)}.",
            hint="Write it with numpy.savez(path, x=samples, y=labels).",
        )
    x, y = arrays["x"], arrays["y"]
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise DatasetError(
            f"{path}: y is {y.dtype} {list(y.shape)}, not one whole number a sample.",
            hint="Save y.astype('int64').reshape(-1).",
        )
    numeric = x.dtype.kind in "biuf" or x.dtype == dtype_named("bfloat16").numpy
    if x.ndim < 1 or not numeric:
        raise DatasetError(f"{path}: x is {x.dtype} {list(x.shape)}, not numbers, a sample a row.")
    if len(x) != len(y):
        raise DatasetError(f"{path}: x has {len(x)} samples and y {len(y)} labels.")
    if not len(x):
        raise DatasetError(f"The data set {path} is empty: x has no row.")
    if wrong := np.flatnonzero((y < 0) | (y > np.iinfo(np.int32).max)).tolist():
        raise DatasetError(f"{path}: y[{wrong[0]}] is {y[wrong[0]]}: no class number.")
    return x, y.astype(np.int64)


def _names(arrays: Iterable[str]) -> str:
    names: Sequence[str] = sorted(arrays)
    return ", ".join(names) or "none"
