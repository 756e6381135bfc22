"""The call that repeats a run, as Python."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

from portnet.adapter import OptimizerSpec
from portnet.finetuning.head import Head
from portnet.finetuning.settings import Settings

__all__ = ["recipe"]


def recipe(settings: Settings, data: str | dict[str, str] | None) -> str:
    """Return a call of `portnet.finetune` that has these settings; what it takes by itself is left out.

    Args:
        settings: the run's.
        data: folder of the images, or of each set; None when they came from memory.
    """
    from portnet.finetuning.api import finetune

    defaults = {name: p.default for name, p in inspect.signature(finetune).parameters.items()}
    arguments = _arguments(settings)
    lines = [repr(data) if data is not None else "data"]
    lines += [f"{name}={_written(value)}" for name, value in arguments.items() if defaults[name] != value]
    used = [name for name in ("Augment", "OptimizerSpec") if any(f"={name}(" in line for line in lines)]
    imports = "".join(f"from {_HOMES[name]} import {name}\n" for name in used)
    return f"import portnet\n{imports}\nportnet.finetune(\n" + "".join(f"    {line},\n" for line in lines) + ")"


_HOMES = {
    "Augment": "portnet.data.augment",
    "OptimizerSpec": "portnet.adapter",
}


def _arguments(settings: Settings) -> dict[str, Any]:
    """Return the arguments of `portnet.finetune`, by name, that these settings come from."""
    plain = {name: getattr(settings, name) for name in Settings.__dataclass_fields__}
    policy, rule = plain.pop("freeze"), plain.pop("optimizer")
    plain["freeze"] = policy.text
    plain["unfreeze"] = dict(policy.later) or None
    plain["stage_decay"] = policy.stage_decay if policy.stage_decay != 1 else None
    plain["lr_mult"] = dict(policy.lr_mult) or None
    plain["batch_norm"] = policy.batch_norm if policy.batch_norm != "auto" else None
    head = plain["head"]
    plain["head"] = None if head == Head.natural() else head
    is_sgd = rule.name == "sgd"
    simple = OptimizerSpec(
        rule.name,
        lr=rule.lr,
        momentum=rule.momentum if is_sgd else 0.0,
        nesterov=is_sgd and rule.nesterov,
        weight_decay=rule.weight_decay,
    )
    if rule == simple:
        plain |= {"optimizer": rule.name, "lr": rule.lr, "weight_decay": rule.weight_decay}
        plain |= {"momentum": rule.momentum, "nesterov": rule.nesterov} if is_sgd else {}
    else:
        plain["optimizer"] = rule
    schedule = plain["schedule"]
    plain |= {"schedule": schedule.text, "warmup": schedule.warmup}
    return plain


def _written(value: Any) -> str:
    if not is_dataclass(value):
        return repr(value)
    parts = [f"{each.name}={getattr(value, each.name)!r}" for each in fields(value) if _is_told(value, each)]
    return f"{'portnet.' if isinstance(value, Head) else ''}{type(value).__name__}({', '.join(parts)})"


def _is_told(value: Any, each: Field[Any]) -> bool:
    """Whether a field has to be given: it has no default, or another value."""
    return each.default is MISSING or bool(getattr(value, each.name) != each.default)
