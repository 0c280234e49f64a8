"""Builds timm models and loads their weights, for every family of trunks that timm serves."""

from collections.abc import Sequence
from typing import Any

import timm
from torch import nn

from mmsigma.errors import InvalidSettingError, UnknownNameError, WeightsError, unknown
from mmsigma.models.trunks.weights import loading as weight_files
from mmsigma.models.trunks.weights import position

# The family that runs a class of timm's with all its positions; every other class that can return
# its intermediate maps runs as TimmGeneric.
FAMILIES = {
    'VisionTransformer': 'TimmViT',
    'Beit': 'TimmBEiT',
    'Eva': 'TimmEVA',
    'VisionTransformerSAM': 'TimmSAM',
    'HieraDet': 'TimmHieraDet',
    'Hiera': 'TimmHiera',
    'SwinTransformer': 'TimmSwin',
    'SwinTransformerV2': 'TimmSwin',
}

# What upstream's plain transformers have behind their final norm; a trunk ends there.
HEAD = ('head.', 'fc_norm.', 'attn_pool.', 'head_dist.')


def create(model_name: str, model_args: dict[str, Any] | None, **defaults: Any) -> Any:
    """A timm model without classifier, its weights random.

    Args:
        model_name: timm's name, with or without the tag of its weights.
        model_args: The user's arguments of the model; they win over ``defaults``.
        defaults: The family's arguments.

    Raises:
        UnknownNameError: timm has no such model.
        InvalidSettingError: timm refuses the arguments.
    """
    if not timm.is_model(str(model_name)):
        raise UnknownNameError(
            unknown('timm model', model_name, timm.list_models(), 'See timm.list_models().')
        )
    arguments = {'num_classes': 0, **defaults, **(model_args or {})}
    try:
        return timm.create_model(model_name, **arguments)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise InvalidSettingError(
            f'timm cannot build {model_name!r} with {arguments}: {error}. Correct model_args.'
        ) from error


def require(
    model: nn.Module, model_name: str, family: str, classes: tuple[type, ...], blocks: Sequence[Any]
) -> None:
    """Check that ``model`` is of this family.

    Args:
        model: The timm model.
        model_name: Its name, for the message.
        family: The family's name.
        classes: The classes of model that it runs, and of their blocks.
        blocks: The model's blocks.

    Raises:
        InvalidSettingError: It is of another family, or has blocks of another kind.
    """
    # A subclass of a block may run differently, so only the very classes will do.
    odd = next((block for block in blocks if type(block) not in classes), None)
    if isinstance(model, classes) and odd is None:
        return
    found = type(model).__name__
    served = FAMILIES.get(found)
    if served == family or served is None:  # of this class, but with other blocks
        served = 'TimmGeneric'
    inside = f' with {type(odd).__name__} blocks' if odd is not None and blocks else ''
    raise InvalidSettingError(
        f'{family} cannot run {model_name!r}, a {found}{inside}. '
        f'Use trunk=dict(type={served!r}, ...).'
    )


def cut_head(model: Any) -> None:
    """Remove what a plain transformer has behind its final norm: pooling, its norm, classifier.

    A model that norms after pooling has no final norm, before and after.
    """
    model.global_pool = ''
    model.attn_pool = None
    model.fc_norm = nn.Identity()
    model.head = nn.Identity()


def load(
    model: nn.Module,
    model_name: str,
    weights: str,
    model_args: dict[str, Any] | None,
    ignored: Sequence[str],
    pos_resample: str = position.TIMM,
) -> bool:
    """Load ``weights`` into a model that :func:`create` built; whether they are pretrained.

    Args:
        model: The model.
        model_name: Its name, for the hub and for messages.
        weights: A local file in any layout that :mod:`mmsigma.models.trunks.weights.loading` reads,
            ``'hub'`` or ``'random'``.
        model_args: The user's arguments of the model.
        ignored: Prefixes of keys that upstream has but the trunk leaves out (a classifier).
        pos_resample: How position embeddings of another image size are resampled.

    Raises:
        WeightsError: The weights cannot be had, read or loaded.
    """
    if weights == 'random':
        return False
    if weights == 'hub':
        # At the release's own image size, so that what is resampled is chosen and said below.
        args = {key: value for key, value in (model_args or {}).items() if key != 'img_size'}
        source, state = model_name, _from_hub(model_name, args)
    else:
        source, state = weights, weight_files.read(weights)
    state = weight_files.to_timm(state, model, model_name, source, pos_resample)
    weight_files.load(model, state, source, (*ignored, *_classifier(model)))
    return True


def _classifier(model: Any) -> list[str]:
    """Prefixes of the classifier's keys by timm's own account, where the model has none."""
    named = (getattr(model, 'pretrained_cfg', None) or {}).get('classifier') or ()
    prefixes = [f'{name}.' for name in ([named] if isinstance(named, str) else named)]
    return [p for p in prefixes if not any(key.startswith(p) for key in model.state_dict())]


def _from_hub(model_name: str, model_args: dict[str, Any]) -> dict[str, Any]:
    try:
        # With its own pooling, so that timm finds a place for every tensor of the release.
        return timm.create_model(model_name, pretrained=True, **model_args).state_dict()
    except Exception as error:  # whatever the hub client raises; it has no common base
        raise WeightsError(
            f'timm could not fetch pretrained weights of {model_name!r}: {error}. Without network, '
            "download them elsewhere and give the file as `weights`; 'random' leaves the trunk "
            'untrained.'
        ) from error
