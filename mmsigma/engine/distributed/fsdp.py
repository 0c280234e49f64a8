"""Parameters and optimiser sharded over the processes: PyTorch's ``fully_shard`` for MMEngine.

MMEngine's own ``FSDPStrategy`` flattens parameters in groups. Frozen and trainable ones of a block
share such a group then, it gathers where a block is called, which trunks of two steps never do, and
its checkpoints fit no other strategy. ``fully_shard`` (FSDP2, PyTorch >= 2.6) shards every
parameter by itself.
"""

from collections.abc import Mapping
from typing import Any

from mmengine._strategy import DDPStrategy
from mmengine.device import get_device
from mmengine.dist import all_reduce, get_world_size, is_main_process
from mmengine.optim import BaseOptimWrapper
from torch import Tensor, nn

from mmsigma.checkpoint.atomic_write import whole
from mmsigma.engine.distributed.runner import integers_aside
from mmsigma.engine.distributed.units import units
from mmsigma.errors import InvalidSettingError
from mmsigma.models.adapted_backbone import AdaptedBackbone
from mmsigma.registry import STRATEGIES


@STRATEGIES.register_module()
class FSDP2Strategy(DDPStrategy):
    """Shards the model, frozen trunk and all, and the optimiser over all processes.

    The trunk's layers are gathered one by one while they run, in the forward pass and in the
    backward pass; adapters, neck and head, small as they are, once for both. Gradients are averaged
    of what trains alone. A checkpoint is the file that DDP writes: what trains, gathered, written
    by process 0, for any number of processes and either strategy to resume from.

    Args:
        min_params: Smaller modules of the trunk are gathered with the adapters.
        reshard: Whether the trunk's layers are let go after the forward pass and gathered again in
            the backward pass. Without it, more memory and half the traffic.
        **kwargs: See ``mmengine._strategy.DDPStrategy``: ``sync_bn``.

    Raises:
        InvalidSettingError: ``model_wrapper``, which there is none of.
    """

    def __init__(self, *, min_params: int = 100_000, reshard: bool = True, **kwargs: Any) -> None:
        if kwargs.get('model_wrapper') is not None:
            raise InvalidSettingError(
                'FSDP2Strategy shards the model itself and takes no model_wrapper; given: '
                f'{kwargs["model_wrapper"]!r}. Its settings are min_params and reshard.'
            )
        super().__init__(**kwargs)
        self.min_params = min_params
        self.reshard = reshard
        self._numbers: list[nn.Parameter] = []

    def _init_model_weights(self, model: nn.Module) -> nn.Module:
        with integers_aside(model):
            return super()._init_model_weights(model)

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        model = self.convert_model(model.to(get_device()))
        self._numbers = shard(model, self.min_params, self.reshard)
        return model

    def build_optim_wrapper(self, optim_wrapper: Any, model: Any = None) -> BaseOptimWrapper:
        """As upstream; single numbers do not mix with shards in what runs over many tensors.

        Raises:
            InvalidSettingError: Clipping of gradients with a tuner that trains a single number.
        """
        built = super().build_optim_wrapper(optim_wrapper, model)
        if any(p.requires_grad for p in self._numbers):
            if getattr(built, 'clip_kwargs', None):
                raise InvalidSettingError(
                    'FSDP2Strategy cannot clip gradients (optim_wrapper.clip_grad) of a model '
                    'that trains a single number, such as the scale of Rein. Set '
                    'optim_wrapper.clip_grad=None, or take --strategy ddp.'
                )
            for group in built.optimizer.param_groups:
                group['foreach'] = False
        return built

    def model_state_dict(self) -> dict:
        """What trains, gathered, on the CPU of process 0; the others take part and get nothing."""
        return _gather(self.model.state_dict())

    def optim_state_dict(self) -> dict:
        """The optimiser's state as every other strategy has it, like :meth:`model_state_dict`."""
        state = super().optim_state_dict()
        state['state'] = {i: _gather(values) for i, values in state['state'].items()}
        return state

    def load_model_state_dict(self, state_dict: dict, **kwargs: Any) -> None:
        """Load gathered tensors; each process keeps its part."""
        own = dict(self.model.named_parameters())
        for name, value in state_dict.items():
            if name in own:
                state_dict[name] = _as(value, own[name])
        super().load_model_state_dict(state_dict, **kwargs)

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Load the gathered state of an optimiser; each process keeps its part."""
        groups = self.optim_wrapper.optimizer.param_groups
        parameters = [parameter for group in groups for parameter in group['params']]
        state = state_dict['state']
        shared = {
            i: {key: _as(value, parameters[i]) for key, value in values.items()}
            for i, values in state.items()
        }
        super().load_optim_state_dict({**state_dict, 'state': shared})

    def save_checkpoint(self, filename: str, **kwargs: Any) -> None:
        """Gather on all processes; process 0 writes one file, atomically."""
        if is_main_process():
            with whole(filename) as new:
                super().save_checkpoint(str(new), **kwargs)
            return
        self.model_state_dict()
        if kwargs.get('save_optimizer', True) and hasattr(self, 'optim_wrapper'):
            self.optim_state_dict()


def shard(model: nn.Module, min_params: int, reshard: bool) -> list[nn.Parameter]:
    """Shard every parameter of a model over all processes, in place; see :class:`FSDP2Strategy`.

    Returns:
        Parameters that are single numbers, which cannot be divided: every process keeps them, and
        their gradients are averaged.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(next(model.parameters()).device.type, (get_world_size(),))
    numbers = [p for p in model.parameters() if p.ndim == 0]
    # PyTorch shards floating point alone; a trunk in int8 stays whole on every process.
    integers = {p for p in model.parameters() if not p.is_floating_point()}
    common: dict[str, Any] = dict(mesh=mesh, ignored_params={*numbers, *integers})
    for backbone in [m for m in model.modules() if isinstance(m, AdaptedBackbone)]:
        for unit in units(backbone, min_params):
            fully_shard(unit, reshard_after_forward=reshard, **common)
    fully_shard(model, **common)
    for number in numbers:
        if number.requires_grad:
            number.register_post_accumulate_grad_hook(_average)
    return numbers


def _average(parameter: nn.Parameter) -> None:
    if parameter.grad is not None:
        all_reduce(parameter.grad, op='mean')


def _gather(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Whole tensors of shards; a collective operation for each, in the same order everywhere."""
    whole: dict[str, Any] = {}
    for name, value in tensors.items():
        gathered = value.full_tensor() if hasattr(value, 'full_tensor') else value
        if is_main_process():
            whole[name] = gathered.detach().cpu() if isinstance(gathered, Tensor) else gathered
    return whole


def _as(value: Any, parameter: nn.Parameter) -> Any:
    """A whole tensor as this process's part, where the parameter of its shape is sharded."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    sharded = parameter.data
    if not isinstance(sharded, DTensor) or not isinstance(value, Tensor):
        return value
    if value.shape != sharded.shape or isinstance(value, DTensor):
        return value
    value = value.to(sharded.device)
    return distribute_tensor(value, sharded.device_mesh, sharded.placements, src_data_rank=None)
