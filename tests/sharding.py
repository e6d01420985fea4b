"""Engines that shard a model, on a CPU with gloo: what their launchers set, what accelerate leaves out.

With a CPU accelerate takes a file for FSDP and runs plain DDP instead, without a word. `fsdp_on_cpu` makes it
shard; whether it did is for the caller to ask (`sharded`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml


def environment(file: Path) -> dict[str, str]:
    """What `accelerate launch` would set for this file's FSDP block; float32, for comparisons."""
    block = yaml.safe_load(file.read_text())["fsdp_config"]
    values = {name.upper(): str(v).lower() if isinstance(v, bool) else str(v) for name, v in block.items()}
    return {"ACCELERATE_USE_FSDP": "true", "ACCELERATE_MIXED_PRECISION": "no", **values}


def fsdp_on_cpu() -> None:
    """Lets accelerate's state become FSDP where it knows only CPUs. Call it before anything of accelerate."""
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType

    os.environ["ACCELERATE_USE_CPU"] = "1"
    first = AcceleratorState.__init__

    def init(self: Any, *args: Any, **named: Any) -> None:
        if PartialState._shared_state == {}:
            PartialState(True)
        if PartialState._shared_state["distributed_type"] == DistributedType.MULTI_CPU:
            PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        first(self, *args, **named)

    AcceleratorState.__init__ = init  # type: ignore[method-assign]


def deepspeed_environment(stage: int) -> dict[str, str]:
    """What `accelerate launch` would set for ZeRO of this stage without any offloading."""
    return {
        "ACCELERATE_USE_DEEPSPEED": "true",
        "ACCELERATE_MIXED_PRECISION": "no",
        "ACCELERATE_DEEPSPEED_ZERO_STAGE": str(stage),
        "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "none",
        "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "none",
        "ACCELERATE_DEEPSPEED_ZERO3_INIT": "false",
        "ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL": "true",
        "DS_ACCELERATOR": "cpu",
        "DS_BUILD_OPS": "0",
    }


def deepspeed_on_cpu() -> None:
    """Lets accelerate start DeepSpeed over gloo where it knows only CPUs; call it before anything of it."""
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType

    os.environ.pop("ACCELERATE_USE_CPU", None)
    PartialState._prepare_backend = lambda self, *_, **__: (  # type: ignore[method-assign]
        "gloo",
        DistributedType.MULTI_CPU,
    )


def prepare() -> None:
    """Whichever of the two the environment asks for."""
    if os.environ.get("ACCELERATE_USE_FSDP"):
        fsdp_on_cpu()
    if os.environ.get("ACCELERATE_USE_DEEPSPEED"):
        deepspeed_on_cpu()


def sharded(model: Any) -> float:
    """The share of the parameters that this process does not hold: 0.5 of two processes, 0 of DDP."""
    from torch.distributed.tensor import DTensor

    held = whole = 0
    for parameter in model.parameters():
        whole += getattr(parameter, "ds_numel", parameter.numel())
        if isinstance(parameter, DTensor):
            held += parameter.to_local().numel()
        elif hasattr(parameter, "ds_tensor"):
            held += parameter.ds_tensor.numel()
        else:
            held += parameter.numel()
    return 1 - held / whole


def optimizer_sharded(trainer: Any) -> float:
    """The share of Adam's moments that this process does not hold: 0.5 of two with ZeRO-2, 0 of DDP."""
    optimizer = trainer.optimizer
    while hasattr(optimizer, "optimizer"):  # accelerate's, DeepSpeed's, at last torch's own
        optimizer = optimizer.optimizer
    moments = [state["exp_avg"] for state in optimizer.state.values()]
    held = sum(getattr(moment, "_local_tensor", moment).numel() for moment in moments)
    whole = sum(getattr(p, "ds_numel", p.numel()) for p in trainer.model_wrapped.parameters())
    return 1 - held / whole


def add_everywhere(parameter: Any, generator: Any, scale: float) -> None:
    """Adds normal noise, the same however the parameter is shared out; called by all processes alike."""
    import torch
    from torch.distributed.tensor import DTensor, distribute_tensor

    noise = scale * torch.randn(tuple(getattr(parameter, "ds_shape", parameter.shape)), generator=generator)
    if isinstance(parameter, DTensor):
        parameter += distribute_tensor(noise, parameter.device_mesh, parameter.placements)
    elif hasattr(parameter, "ds_shape"):  # empty until DeepSpeed gathers it
        import deepspeed

        with deepspeed.zero.GatheredParameters(parameter, modifier_rank=0):
            parameter += noise
    else:
        parameter += noise
