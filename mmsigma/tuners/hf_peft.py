"""HFPeft: any tuner of Hugging Face's peft library that injects itself into a model.

LoRA, DoRA, IA3, OFT, VeRA, LN tuning and some thirty more; see peft's own documentation for each.
"""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from torch import nn

from mmsigma.errors import InvalidSettingError, UnknownNameError, unknown
from mmsigma.injection import Site
from mmsigma.registry import TUNERS
from mmsigma.tuners.base import Tuner
from mmsigma.tuners.layers import is_called

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
        InvalidSettingError: A field that peft refuses, targets that match nothing or cannot be
            replaced, or a type that does not inject itself into modules.
    """

    def __init__(self, peft_type: str, **options: Any) -> None:
        peft = _peft()
        known = sorted(kind.value for kind in peft.mapping.PEFT_TYPE_TO_TUNER_MAPPING)
        if peft_type not in known:
            raise UnknownNameError(unknown('peft_type', peft_type, known))
        config = peft.PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(peft_type)]
        names = sorted({field.name for field in fields(config)} - _NOT_OURS)
        for name in options:
            if name not in names:
                raise UnknownNameError(unknown(f'field of peft {peft_type}', name, names))
        self.peft_type = peft_type
        self.options = {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}
        try:
            self.config = config(**options)
        except (TypeError, ValueError) as error:
            raise InvalidSettingError(f'peft refuses {peft_type} {options}: {error}.') from error

    def settings(self) -> dict[str, Any]:
        """The type and the options that were given."""
        return {'type': 'HFPeft', 'peft_type': self.peft_type, **self.options}

    def attach(self, site: Site) -> Iterable[nn.Parameter]:
        """Let peft replace the targets inside the trunk; what it leaves trainable trains."""
        peft = _peft()
        model: Any = site.trunk.model
        try:
            peft.inject_adapter_in_model(self.config, model)
        except (ValueError, TypeError, KeyError, NotImplementedError, AttributeError) as error:
            linears = {n.rpartition('.')[2] for n, m in model.named_modules() if _leaf(m)}
            reason = ' '.join(str(error).split())[:300]  # peft prints whole modules
            raise InvalidSettingError(
                f'peft cannot put {self.peft_type} into {site.trunk.name}: {reason} target_modules '
                f'given: {self.options.get("target_modules")!r}; Linear layers of this trunk are '
                f'called {", ".join(sorted(linears))}.'
            ) from error
        layers = peft.tuners.tuners_utils.BaseTunerLayer
        replaced = [name for name, m in model.named_modules() if isinstance(m, layers)]
        for name in replaced:
            parent, _, own = name.rpartition('.')
            if not is_called(model.get_submodule(parent), own):
                raise InvalidSettingError(
                    f'{type(model.get_submodule(parent)).__name__} of {site.trunk.name} reads the '
                    f'weight of {name} without calling it, so that peft would have no effect. '
                    "Leave 'qkv' out of target_modules."
                )
        return [p for p in model.parameters() if p.requires_grad]


def _leaf(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear)


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
