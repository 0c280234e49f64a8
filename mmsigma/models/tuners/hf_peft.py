"""HFPeft: any tuner of Hugging Face's peft library that injects itself into a model.

LoRA, DoRA, IA3, OFT, VeRA, LN tuning and some thirty more; see peft's own documentation for each.
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from mmsigma.errors import InvalidSettingError, UnknownNameError, unknown
from mmsigma.models.trunks.block import CALLED
from mmsigma.models.tuners.base import Tuner, is_factor, is_number
from mmsigma.models.tuners.injection import InjectionContext
from mmsigma.registry import TUNERS

# Types whose `r` is the rank of a product of trained matrices, with no use above the width.
_LOW_RANK = ('LORA', 'ADALORA', 'LOHA')
# What peft sets itself, or what belongs to a language model.
_NOT_OURS = {
    'auto_mapping',
    'base_model_name_or_path',
    'inference_mode',
    'modules_to_save',
    'peft_type',
    'peft_version',
    'revision',
    'runtime_config',
    'task_type',
}


@TUNERS.register_module()
class HFPeft(Tuner):
    """A tuner of the ``peft`` library, by its type and the fields of its config.

    ``tuner=dict(type='HFPeft', peft_type='LORA', r=16, lora_alpha=16, target_modules=['qkv'])``

    Modules are replaced inside the trunk, and what peft leaves trainable trains. LoRA's scale is
    ``lora_alpha / r``, and peft's default of ``lora_alpha`` is 8: state it. timm keeps query, key
    and value in one Linear, ``qkv``: LoRA there has one A for the three of them, and as many
    parameters as two separate updates, of query and value, would have.

    Args:
        peft_type: ``'LORA'``, ``'IA3'``, ``'OFT'``, ``'VERA'``, ``'LN_TUNING'``, ...
        options: Fields of that type's config in peft; ``target_modules`` as peft takes it: names
            or ends of names of modules, or one regular expression of whole names.

    Raises:
        ImportError: peft is not installed.
        UnknownNameError: A type or a field that peft does not have.
        InvalidSettingError: A field that peft refuses or that turns the method off, targets that
            match nothing or cannot be replaced, a rank above the width of a target, or a type that
            does not inject itself into modules.
    """

    def __init__(self, peft_type: str, **options: Any) -> None:
        peft = _peft()
        known = sorted(kind.value for kind in peft.mapping.PEFT_TYPE_TO_TUNER_MAPPING)
        if peft_type not in known:
            raise UnknownNameError(unknown('peft_type', peft_type, known))
        config = peft.PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(peft_type)]
        names = sorted({field.name for field in fields(config)} - _NOT_OURS)
        types = {
            field.name: getattr(field.type, '__name__', field.type) for field in fields(config)
        }
        for name, value in options.items():
            if name not in names:
                raise UnknownNameError(unknown(f'field of peft {peft_type}', name, names))
            _check(f'HFPeft {peft_type} `{name}`', name, value, str(types[name]))
        rank = options.get('r', 1)
        if peft_type in _LOW_RANK and rank < 1:
            raise InvalidSettingError(
                f'HFPeft {peft_type} `r` must be a whole number >= 1; given: {rank!r}.'
            )
        self.peft_type = peft_type
        self.options = {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}
        try:
            self.config = config(**options)
        except (TypeError, ValueError) as error:
            raise InvalidSettingError(f'peft refuses {peft_type} {options}: {error}.') from error

    @classmethod
    def required(cls, settings: Mapping[str, Any]) -> frozenset[str]:
        """Each ``qkv`` layer that is named as a target, called; see :meth:`Tuner.required`."""
        targets = settings.get('target_modules') or ()
        named = () if isinstance(targets, str) else targets
        layers = {f'layer {name}' for name in named if name.rpartition('.')[2] == 'qkv'}
        return frozenset(layers | {CALLED} if layers else ())

    def settings(self) -> dict[str, Any]:
        """The type, the options that were given, and LoRA's alpha in any case."""
        alpha = getattr(self.config, 'lora_alpha', None)
        stated = {} if alpha is None else {'lora_alpha': alpha}
        return {'type': 'HFPeft', 'peft_type': self.peft_type, **stated, **self.options}

    def attach(self, context: InjectionContext) -> Iterable[nn.Parameter]:
        """Let peft replace the targets inside the trunk; what it leaves trainable trains."""
        peft = _peft()
        trunk: Any = context.trunk
        model = trunk.model
        self._check_targets(context)
        try:
            peft.inject_adapter_in_model(self.config, model)
        except (ValueError, TypeError, KeyError, NotImplementedError, AttributeError) as error:
            reason = ' '.join(str(error).split())[:300]  # peft prints whole modules
            raise InvalidSettingError(
                f'peft cannot put {self.peft_type} into {context.trunk.name}: {reason} '
                f'target_modules given: {self.options.get("target_modules")!r}; {_linears(model)}'
            ) from error
        layers = peft.tuners.tuners_utils.BaseTunerLayer
        replaced = [name for name, m in model.named_modules() if isinstance(m, layers)]
        for name in replaced:
            self._check_rank(name, model.get_submodule(name))
            self._check_start(name, model.get_submodule(name))
            _in_float32(model.get_submodule(name))
            if not trunk.calls(f'model.{name}'):
                parent = model.get_submodule(name.rpartition('.')[0])
                raise InvalidSettingError(
                    f'{type(parent).__name__} of {context.trunk.name} reads the '
                    f'weight of {name} without calling it, so that peft would have no effect. '
                    "Leave 'qkv' out of target_modules."
                )
        return [p for p in model.parameters() if p.requires_grad]

    def _check_targets(self, context: InjectionContext) -> None:
        """Check that each target that is named is there; peft is content with one of them."""
        targets = self.options.get('target_modules')
        if targets is None or isinstance(targets, str):
            return  # peft asks for targets, or for a match of the expression
        model: Any = context.trunk.model
        names = [name for name, _ in model.named_modules()]
        for target in targets:
            if not any(name == target or name.endswith(f'.{target}') for name in names):
                raise InvalidSettingError(
                    f'HFPeft target_modules {targets}: nothing in {context.trunk.name} is called '
                    f'{target!r}; {_linears(model)}'
                )

    def _check_rank(self, name: str, layer: Any) -> None:
        if self.peft_type not in _LOW_RANK:
            return
        width = min(layer.get_base_layer().weight.flatten(1).shape)
        for rank in layer.r.values():
            if rank > width:
                raise InvalidSettingError(
                    f'HFPeft {self.peft_type} `r` {rank} is larger than the width of {name}, '
                    f'{width}: use at most {width}.'
                )

    def _check_start(self, name: str, layer: Any) -> None:
        """Refuse to change weights that are stored as integers: the change would be lost."""
        start = self.options.get('init_lora_weights')
        stored = dict(layer.get_base_layer().named_parameters(recurse=False))
        if isinstance(start, str) and start != 'gaussian' and 'weight' not in stored:
            raise InvalidSettingError(
                f'HFPeft {self.peft_type} init_lora_weights={start!r} changes the weight of '
                f"{name}, which trunk.dtype='int8' stores as integers. Leave one of them out."
            )

    def merge(self, context: InjectionContext) -> dict[str, Any]:
        """Let peft merge its layers, and put those that it had replaced back in place.

        Raises:
            InvalidSettingError: A type that peft does not merge, or not exactly.
        """
        model: Any = context.trunk.model
        layers = _peft().tuners.tuners_utils.BaseTunerLayer
        for name, layer in [(n, m) for n, m in model.named_modules() if isinstance(m, layers)]:
            before = _matrix(layer)
            try:
                layer.merge(safe_merge=True)
            except (NotImplementedError, ValueError, TypeError, AttributeError) as error:
                reason = ' '.join(str(error).split()).rstrip('.')[:300]
                raise InvalidSettingError(
                    f'HFPeft {self.peft_type} does not merge: peft has no merge for {name}, or '
                    f'not with these options ({reason}). Run the model as it is, adapters and all.'
                ) from error
            merged = layer.get_base_layer()
            after = _matrix(merged)
            if not torch.allclose(before, after, rtol=1e-4, atol=1e-5 * float(before.abs().max())):
                raise InvalidSettingError(
                    f'HFPeft {self.peft_type} does not merge: what peft made of {name} is another '
                    'layer. Run the model as it is, adapters and all.'
                )
            parent, _, own = name.rpartition('.')
            setattr(model.get_submodule(parent), own, merged)
        return {'type': 'Frozen'}


def _in_float32(layer: Any) -> None:
    """What peft adds takes the dtype of the layer that it wraps; in half precision it trains ill.

    Its own ``get_peft_model`` does the same; its layers compute in the dtype of what they add.
    """
    half = (torch.bfloat16, torch.float16)
    for name in layer.adapter_layer_names:
        added = getattr(layer, name, None)
        for parameter in added.parameters() if isinstance(added, nn.Module) else ():
            if parameter.dtype in half:
                parameter.data = parameter.data.float()


def _matrix(layer: Any) -> Tensor:
    """What a Linear, wrapped by peft or not, makes of unit vectors; of other layers, a zero."""
    weight = layer.weight
    if not isinstance(getattr(layer, 'base_layer', layer), nn.Linear):
        return weight.new_zeros(1)
    return layer(torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device))


def _linears(model: nn.Module) -> str:
    """What can be named, as the end of a message."""
    names = {n.rpartition('.')[2] for n, m in model.named_modules() if isinstance(m, nn.Linear)}
    return f'Linear layers of this trunk are called {", ".join(sorted(names))}.'


def _check(what: str, name: str, value: Any, kind: str) -> None:
    """Check an option of the type ``kind``; peft takes a few that fail late or silently."""
    need, good = '', True
    if name == 'target_modules':
        listed = isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)
        need, good = 'a list of names, or an expression', isinstance(value, str) or listed
    elif kind == 'bool':
        need, good = 'True or False', isinstance(value, bool)
    elif 'dropout' in name:
        need, good = 'a probability in [0, 1)', is_number(value) and 0 <= value < 1
    elif name.endswith('alpha'):
        need, good = 'a finite number other than 0', is_factor(value)
    elif kind == 'int':
        need, good = 'a whole number', type(value) is int
    elif kind == 'float':
        need, good = 'a finite number', is_number(value)
    if not good:
        raise InvalidSettingError(f'{what} is {need}; given: {value!r}.')


def _peft() -> Any:
    try:
        import peft
        import peft.mapping
        import peft.tuners.tuners_utils
    except ImportError as error:
        raise ImportError(
            "HFPeft needs the peft library: pip install 'peft>=0.17,<0.20'."
        ) from error
    return peft
