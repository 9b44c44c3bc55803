"""Several ranks: a model split over them, what each of them holds gathered, and a rank that is gone."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed, nn

from vitask.errors import UsageError, VitaskError

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch.optim import Optimizer

GONE = ("closed by peer", "reset by peer", "Broken pipe", "Connection refused", "heartbeat")
"""What gloo and the store say of a rank that no longer answers."""


class LostRank(VitaskError):
    """Another rank ended before this one."""


def is_lost_rank(error: Exception) -> bool:
    """Whether an error is that of a rank which waits for one that is gone."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return False
    return isinstance(error, distributed.DistError) or any(text in str(error) for text in GONE)


def layer_classes(decoder: nn.Module) -> set[str]:
    """Name the classes of a decoder's layers: what its longest list of modules holds."""
    lists = [module for module in decoder.modules() if isinstance(module, nn.ModuleList)]
    return {type(layer).__name__ for layer in max(lists, key=len, default=())}


def shard(accelerator: Accelerator, layers: Collection[str]) -> None:
    """Let the accelerator split what it prepares over all ranks (FSDP2): each layer by itself, and the rest as one.

    Precision stays with autocast, so that the ranks compute what they compute without sharding. Accelerate offers FSDP
    for GPUs alone; setting it here serves CPU ranks as well.

    Args:
        accelerator: of several ranks.
        layers: names of the classes that are split one by one.

    Raises:
        UsageError: the precision is fp16, whose loss scaling is not for sharded gradients.
    """
    from accelerate import FullyShardedDataParallelPlugin
    from accelerate.utils import DistributedType

    if accelerator.mixed_precision == "fp16":
        raise UsageError("launch.shard=true: does not go with launch.precision=fp16; take bf16, or no")
    accelerator.state.distributed_type = DistributedType.FSDP
    accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=sorted(layers),
        reshard_after_forward=True,
        cpu_ram_efficient_loading=False,
    )


def whole(accelerator: Accelerator) -> None:
    """Let the accelerator replicate what it prepares, whatever an earlier stage of this process did."""
    from accelerate import PartialState

    accelerator.state.distributed_type = PartialState().distributed_type


def gathered(value: Any) -> Any:
    """Return a tree of dictionaries, lists and tensors with every sharded tensor whole; all ranks must call it."""
    if isinstance(value, dict):
        return {key: gathered(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(gathered, value))
    return value.full_tensor() if _is_sharded(value) else value


def gather_parameters(module: nn.Module, *, frozen: bool) -> None:
    """Put whole parameters in the place of sharded ones, once training is over; all ranks must call it.

    Args:
        module: whose parameters.
        frozen: whether those that do not train as well; of a base model nobody saves them, so they stay sharded.
    """
    for owner in module.modules():
        for name, parameter in owner.named_parameters(recurse=False):
            if (frozen or parameter.requires_grad) and _is_sharded(parameter):
                whole_one = nn.Parameter(gathered(parameter.detach()).cpu(), parameter.requires_grad)
                owner.register_parameter(name, whole_one)


def scattered(state: dict[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """Return the state of an optimiser, saved whole, split as its parameters are; all ranks must call it."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {**state, "state": {n: _split_like(parameters[n], each) for n, each in state["state"].items()}}


def _split_like(parameter: torch.Tensor, state: dict[str, Any]) -> dict[str, Any]:
    if not _is_sharded(parameter):
        return state
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = parameter.device_mesh, parameter.placements
    return {
        name: distribute_tensor(each.to(parameter.device), mesh, placements) if each.shape == parameter.shape else each
        for name, each in state.items()
    }


def _is_sharded(value: Any) -> bool:
    """Whether it is a tensor of which each rank holds a part."""
    return distributed.is_available() and hasattr(value, "full_tensor")
