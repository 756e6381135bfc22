"""``portnet doctor``."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import typer

from portnet.cli.output import Json, print_json, print_table

__all__ = ["diagnose", "doctor"]

_CORE = (
    "numpy",
    "onnx",
    "onnx-ir",
    "pillow",
    "simplejpeg",
    "cykooz-resizer",
    "onnxruntime",
    "onnxruntime-gpu",
)


def doctor(json: Json = False) -> None:
    """Say what is installed and what really works: engines, execution providers, threads. Exit 1 if something is amiss.

    Example: portnet doctor
    """
    found = diagnose()
    if json:
        print_json(found)
    else:
        print_table(("package", "version"), found["packages"].items())
        print_table(("engine", "state"), found["engines"].items(), title="\nengines")
        print_table(("provider", "state"), found["providers"].items(), title="\nonnxruntime execution providers")
        typer.echo(f"\nthreads: {found['threads']} processors usable; OMP_NUM_THREADS {found['omp_num_threads']}")
        typer.echo(f"weights are kept in {found['cache']}")
        for problem in found["problems"]:
            typer.echo(f"problem: {problem}")
        typer.echo("no problem found" if not found["problems"] else "")
    if found["problems"]:
        raise typer.Exit(1)


def diagnose() -> dict[str, Any]:
    """Return the state of the installation as plain data; engines are imported to find out."""
    from portnet import __version__
    from portnet.weights.store import cache_folder

    problems: list[str] = []
    packages = {"portnet": __version__, "python": platform.python_version(), **_versions()}
    if "onnxruntime" in packages and "onnxruntime-gpu" in packages:
        problems.append(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other: "
            "pip uninstall both, then install the one you want"
        )
    return {
        "packages": packages,
        "engines": _engines(problems),
        "providers": _providers(problems),
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS", "not set"),
        "cache": str(cache_folder()),
        "problems": problems,
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in _CORE:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _engines(problems: list[str]) -> dict[str, str]:
    from portnet.engines import KNOWN, engine, installed
    from portnet.errors import PortNetError

    states = {}
    for name in dict.fromkeys([*KNOWN, *installed()]):
        if name not in installed():
            states[name] = f"not installed: pip install 'portnet[{name}]'"
            continue
        try:
            adapter = engine(name)
            states[name] = f"{adapter.framework} {adapter.version()}, devices: {', '.join(adapter.devices())}"
        except PortNetError as error:
            states[name] = str(error)
            problems.append(str(error))
    return states


def _providers(problems: list[str]) -> dict[str, str]:
    from portnet.errors import MissingDependencyError
    from portnet.runtime.providers import loadable, onnxruntime

    try:
        available = onnxruntime().get_available_providers()
    except MissingDependencyError as error:
        problems.append(str(error))
        return {}
    return {name: "loads" if name in loadable() else "listed, but does not load" for name in available}
