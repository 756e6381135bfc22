"""What a word or a path means: networks of MXNet's zoo, and the two files of a symbol."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from portnet.errors import InputError, MissingDependencyError, UnknownNameError
from portnet.formats.mxnet import params_beside, read_symbol
from portnet.weights.read import read_weights
from portnet_gluon.arrays import to_mxnet
from portnet_gluon.capture import RANDOM, ZOO_NAMES
from portnet_gluon.compat import mx

__all__ = ["open_network", "zoo_names"]

_PREFIX = "gluon:"


def open_network(source: str, weights: Path | None = None) -> Any:
    """Return ``gluon:NAME`` as a block, or ``PREFIX-symbol.json`` as (symbol, parameters).

    A network of the zoo has the weights of the file that is given, else those that MXNet has fetched before, else
    random ones; nothing is downloaded.

    Raises:
        UnknownNameError: the zoo has no such network.
        InputError: a file that is broken or hostile; it is read by PortNet's own reader before MXNet sees it.
        WeightsError: weights that are not the network's.
    """
    if source.startswith(_PREFIX):
        return _of_zoo(source.removeprefix(_PREFIX), weights)
    path = Path(source)
    read_symbol(path)
    params = weights if weights is not None else params_beside(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            symbol = mx.sym.load_json(path.read_text())
        except (mx.base.MXNetError, UnicodeDecodeError) as error:
            # what this version no longer reads may still be translated
            raise MissingDependencyError(f"MXNet {mx.__version__} does not load {path.name}") from error
    return symbol, {} if params is None else read_weights(params)


def zoo_names() -> list[str]:
    """Return the names of the networks in ``gluon.model_zoo.vision``, as its functions are called."""
    from mxnet.gluon.model_zoo import vision

    known = (name for name in dir(vision) if callable(getattr(vision, name)) and not name.startswith("get_"))
    return [name for name in known if name == "alexnet" or (name.islower() and any(map(str.isdigit, name)))]


def _of_zoo(name: str, weights: Path | None) -> Any:
    from mxnet.gluon.model_zoo import vision

    names = zoo_names()
    function = _spelled(name)
    if function not in names:
        raise UnknownNameError("network of Gluon's zoo", name, names)
    block = getattr(vision, function)()
    block.initialize(_drawn(function))
    stored = weights if weights is not None else _fetched_before(name)
    if stored is not None:
        _load(block, stored)
    else:
        RANDOM.add(block)
    ZOO_NAMES[block] = function
    # called op by op, MXNet 1.9's Flatten behind a oneDNN convolution has been seen to give other numbers
    block.hybridize()
    return block


def _drawn(function: str) -> Any:
    """Return how random weights are drawn: with MXNet's own, outputs fade to 1e-20, beside which a check says nothing.

    He et al. 2015 keep their size, https://arxiv.org/abs/1502.01852; sums over residual branches would grow to 1e8 so.
    """
    init = mx.init.Xavier
    return init() if function.startswith("resnet") else init(rnd_type="gaussian", factor_type="in", magnitude=2)


def _spelled(name: str) -> str:
    """Return a function's name for what ``get_model`` calls it too: mobilenetv2_0.25, squeezenet1.1, inceptionv3."""
    name = name.lower().replace(".", "_")
    return {"inceptionv3": "inception_v3"}.get(name, name.replace("mobilenetv2_", "mobilenet_v2_"))


def _fetched_before(name: str) -> Path | None:
    """Return the file that ``pretrained=True`` left in MXNet's cache, of the digest that MXNet knows."""
    from mxnet.gluon.model_zoo import model_store
    from mxnet.gluon.utils import check_sha1

    published = name.lower().replace("_v2_", "v2_").replace("inception_v3", "inceptionv3")
    if published not in model_store._model_sha1:
        head, _, tail = published.rpartition("_")
        published = f"{head}.{tail}"
    if published not in model_store._model_sha1:
        return None
    root = Path(mx.base.data_dir(), "models").expanduser()
    path = root / f"{published}-{model_store.short_hash(published)}.params"
    return path if path.is_file() and check_sha1(str(path), model_store._model_sha1[published]) else None


def _load(block: Any, path: Path) -> None:
    """Fill a block by structural name, or by its parameters' own, without their prefix or with it."""
    arrays = read_weights(path)
    structural = block._collect_params_with_prefix()
    own = {parameter.name: parameter for parameter in structural.values()}
    bare = {name.removeprefix(block.prefix): parameter for name, parameter in own.items()}
    known = next((names for names in (structural, own, bare) if arrays.keys() == names.keys()), None)
    if known is None:
        missing = next((name for name in structural if name not in arrays), next(iter(arrays)))
        raise InputError(f"{path} does not hold the weights of this network: {missing!r} is in one of the two alone")
    for name, parameter in known.items():
        array = arrays[name]
        if len(parameter.shape) != array.ndim or any(n not in (0, m) for n, m in zip(parameter.shape, array.shape)):  # noqa: B905
            raise InputError(f"{path}: {name!r} got shape {array.shape}, expected {parameter.shape}")
        parameter.shape = array.shape
        parameter._finish_deferred_init()
        parameter.set_data(to_mxnet(array, mx.cpu()))
