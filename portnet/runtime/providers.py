"""Execution providers: what was asked for, what really loads, and never a silent fallback.

onnxruntime answers a request for CUDA with a CPU session and a warning when a library is missing, so a provider
counts here only when a session that was opened on it says that it runs there.
"""

from __future__ import annotations

import functools
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any

from portnet.errors import MissingDependencyError, ModelError, ProviderError, UnknownNameError

__all__ = ["SHORT_NAMES", "loadable", "onnxruntime", "open_session", "preferred", "preferred_here"]

SHORT_NAMES: dict[str, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
}

# TF32 rounds float32 matrix products to 10 bits of mantissa: parity with the CPU needs it off
_OPTIONS: dict[str, dict[str, str]] = {"CUDAExecutionProvider": {"use_tf32": "0"}}

# onnxruntime's levels of logging; it warns unless told otherwise, and cannot be asked
_WARNING, _FATAL = 2, 4

# tried in this order when none is asked for
_PREFERRED = ("CUDAExecutionProvider", "CPUExecutionProvider")


def onnxruntime() -> ModuleType:
    """Import onnxruntime.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import onnxruntime as module
    except ImportError as error:
        raise MissingDependencyError(
            f"running a network needs onnxruntime ({error}): pip install 'portnet[cpu]', or 'portnet[gpu]' for CUDA"
        ) from error
    return module


def open_session(
    source: bytes | str, provider: str | None = None, threads: int | None = None, *, optimise: bool = True
) -> Any:
    """Open an onnxruntime session on a provider that really loads.

    Threads wait without spinning: a spinning session slows a training step in the same process up to six times.

    Args:
        source: a serialized model, or the path of one with external data that has been checked.
        provider: "cpu", "cuda", ... or onnxruntime's own name; None for the best that loads.
        threads: threads of one operator; None for one a core.
        optimise: whether onnxruntime may fuse and reorder what it computes.

    Raises:
        UnknownNameError: no such provider.
        ProviderError: it was asked for and does not load here.
        ModelError: onnxruntime rejects the model.
    """
    if provider is None:
        return _open(source, preferred(), threads, optimise)
    name = SHORT_NAMES.get(provider.lower(), provider)
    _check_available(provider, name)
    return _open(source, name, threads, optimise)


def preferred() -> str:
    """Return onnxruntime's name of the provider that is taken where none is asked for: the best that loads."""
    candidates = [name for name in _PREFERRED if name in onnxruntime().get_available_providers()]
    return next((name for name in candidates[:-1] if not _why_not(name)), candidates[-1])


def preferred_here() -> str:
    """Return what `preferred` does, without loading an onnxruntime whose package is for the CPU alone."""
    try:
        version("onnxruntime-gpu")
    except PackageNotFoundError:
        return _PREFERRED[-1]
    return preferred()


def _check_available(asked: str, name: str) -> None:
    available = onnxruntime().get_available_providers()
    if name in available:
        return
    if name not in onnxruntime().get_all_providers():
        raise UnknownNameError("provider", asked, [*SHORT_NAMES, *onnxruntime().get_all_providers()])
    raise ProviderError(
        f"provider {asked!r} is not in this onnxruntime: it has {', '.join(available)}. "
        "Install the package that carries it (for CUDA: pip install 'portnet[gpu]'), or ask for --provider cpu."
    )


def _open(source: bytes | str, name: str, threads: int | None, optimise: bool = True) -> Any:
    module = onnxruntime()
    options = module.SessionOptions()
    options.log_severity_level = _FATAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    if threads is not None:
        options.intra_op_num_threads = threads
    if not optimise:
        options.graph_optimization_level = module.GraphOptimizationLevel.ORT_DISABLE_ALL
    providers: list[Any] = [(name, _OPTIONS.get(name, {}))]
    if name != "CPUExecutionProvider":
        providers.append("CPUExecutionProvider")
        if reason := _why_not(name):
            raise _not_loaded(name, reason)
    try:
        # else it would take another provider when one fails, now or in a run, and print what it does
        session = module.InferenceSession(source, options, providers=providers, enable_fallback=0)
    except Exception as error:  # onnxruntime raises a dozen classes of its own
        raise ModelError(f"onnxruntime rejects the model: {_first_line(error)}") from error
    if session.get_providers()[0] != name:
        raise _not_loaded(name, f"the session runs on {', '.join(session.get_providers())}")
    return session


def _not_loaded(name: str, reason: str) -> ProviderError:
    return ProviderError(
        f"provider {name} was asked for and did not load: {reason.rstrip('.')}. "
        "Check drivers and libraries with `portnet doctor`."
    )


def loadable() -> tuple[str, ...]:
    """Names of the providers on which a session really opens here, found by opening one on each."""
    return tuple(name for name in onnxruntime().get_available_providers() if not _why_not(name))


@functools.cache
def _why_not(name: str) -> str:
    """Return why no session opens on a provider, or ""; what onnxruntime logs meanwhile is not shown."""
    module = onnxruntime()
    module.set_default_logger_severity(_FATAL)
    try:
        providers = [name, "CPUExecutionProvider"] if name != "CPUExecutionProvider" else [name]
        session = module.InferenceSession(_probe(), providers=providers, enable_fallback=0)
    except Exception as error:  # onnxruntime raises a dozen classes of its own
        return _first_line(error)
    finally:
        module.set_default_logger_severity(_WARNING)
    found = session.get_providers()
    return "" if found[0] == name else f"the session runs on {', '.join(found)}"


def _probe() -> bytes:
    """Return the smallest useful model: y = -x."""
    from onnx import TensorProto, helper

    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "probe", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return model.SerializeToString()


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
