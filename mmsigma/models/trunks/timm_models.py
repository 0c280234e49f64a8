"""What every family of trunks that timm serves shares: its model, its weights, names of parts."""

from collections.abc import Sequence
from typing import Any, ClassVar

import timm
from torch import Tensor, nn

from mmsigma.errors import InvalidSettingError, UnknownNameError, WeightsError, unknown
from mmsigma.models.trunks import windows
from mmsigma.models.trunks.base import Trunk
from mmsigma.models.trunks.block import PROMPTS, USUAL
from mmsigma.models.trunks.residual_steps import Names
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

_DROP_PATHS = ('drop_path1', 'drop_path2')
BLOCK = Names(drop_paths=_DROP_PATHS)
SCALED_BLOCK = Names(scales=('ls1', 'ls2'), drop_paths=_DROP_PATHS)
EVA_BLOCK = Names(scales=('gamma_1', 'gamma_2'), drop_paths=_DROP_PATHS)


class TimmTrunk(Trunk):
    """A model of timm's without what stands behind its blocks and their norm.

    Args:
        model_name: timm's name, with or without the tag of its weights.
        weights: A local file in any layout that :mod:`mmsigma.models.trunks.weights.loading` reads,
            ``'hub'`` to download timm's pretrained weights, or ``'random'``.
        mode, dtype: See :class:`~mmsigma.models.trunks.base.Trunk`.
        model_args: Further arguments of the timm model, e.g. ``dict(drop_path_rate=0.1)``.

    Raises:
        UnknownNameError: timm has no such model.
        InvalidSettingError: The model is of another family, or timm refuses ``model_args``.
        WeightsError: The weights cannot be had, read or loaded.

    Attributes:
        classes: The classes of model that the family runs, and of their blocks.
        arguments: What it builds models with, unless the user says else.
        left_out: Prefixes of keys of weights that the trunk has no place for (a classifier).
        pos_resample: How position embeddings of another image size are resampled.
    """

    provides = USUAL
    classes: ClassVar[tuple[type, ...]]
    arguments: dict[str, Any] = {}
    left_out: ClassVar[tuple[str, ...]] = ('head.',)
    pos_resample: str = position.TIMM

    def __init__(
        self,
        model_name: str,
        weights: str,
        mode: str = 'eval',
        dtype: str = 'float32',
        model_args: dict[str, Any] | None = None,
    ) -> None:
        model = create(model_name, model_args, **self.arguments)
        self._require(model, model_name)
        options = self.cut(model, model_name)
        loaded = load(model, model_name, weights, model_args, self.left_out, self.pos_resample)
        name = f'timm/{model_name}' + (f'?{options}' if options else '')
        super().__init__(model, name, loaded, mode, dtype)
        self.patch = self.patch_of(model)

    def cut(self, model: Any, model_name: str) -> str:
        """Take away what the trunk leaves out; settings that its features depend on, for its name.

        Raises:
            InvalidSettingError: The family cannot run the model with these arguments.
        """
        model.head = nn.Identity()
        return ''

    def patch_of(self, model: Any) -> int:
        """Side of a token at the embedding, in pixels."""
        return model.patch_embed.patch_size[0]

    def _require(self, model: Any, model_name: str) -> None:
        """Check that ``model`` is of this family.

        Raises:
            InvalidSettingError: It is of another family, or has blocks of another kind.
        """
        # A subclass of a block may run differently, so only the very classes will do.
        blocks: Sequence[Any] = getattr(model, 'blocks', ())
        odd = next((block for block in blocks if type(block) not in self.classes), None)
        if isinstance(model, self.classes) and odd is None:
            return
        found, family = type(model).__name__, type(self).__name__
        served = FAMILIES.get(found)
        if served == family or served is None:  # of this class, but with other blocks
            served = 'TimmGeneric'
        inside = f' with {type(odd).__name__} blocks' if odd is not None else ''
        raise InvalidSettingError(
            f'{family} cannot run {model_name!r}, a {found}{inside}. '
            f'Use trunk=dict(type={served!r}, ...).'
        )


class NormedTimmTrunk(TimmTrunk):
    """A model of timm's with a final norm.

    Args:
        model_name, weights, mode, dtype, model_args: See :class:`TimmTrunk`.
        final_norm: Whether output maps pass the model's final norm, if it has one.
    """

    def __init__(
        self,
        model_name: str,
        weights: str,
        mode: str = 'eval',
        dtype: str = 'float32',
        final_norm: bool = True,
        model_args: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(model_name, weights, mode, dtype, model_args)
        if not final_norm:
            self.model.norm = nn.Identity()

    def norm(self, tokens: Tensor, index: int) -> Tensor:
        """The final norm; see :meth:`Trunk.norm`."""
        return self.model.norm(tokens)


class WindowedTimmTrunk(NormedTimmTrunk):
    """A plain transformer of timm's, with attention inside windows where it is asked for.

    Args:
        model_name, weights, mode, dtype, final_norm, model_args: See :class:`NormedTimmTrunk`.
        window: Side of attention windows in tokens, or None (default): every block attends to the
            whole image. See :mod:`mmsigma.models.trunks.windows`.
        global_blocks: With ``window``, the blocks that attend to the whole image nevertheless:
            how many, spread evenly over the model up to its last block (4 by default), or a list
            of indices, negative from the end.

    Raises:
        InvalidSettingError: A window below one token, or global blocks that the model does not
            have.
    """

    arguments = {'dynamic_img_size': True}  # resamples positions to the grid of each input
    left_out = HEAD
    provides = USUAL | {PROMPTS}

    def __init__(
        self,
        model_name: str,
        weights: str,
        mode: str = 'eval',
        dtype: str = 'float32',
        final_norm: bool = True,
        model_args: dict[str, Any] | None = None,
        window: int | None = None,
        global_blocks: int | Sequence[int] | None = None,
    ) -> None:
        self._windowed = window, global_blocks
        super().__init__(model_name, weights, mode, dtype, final_norm, model_args)
        self.has_class_token = self.model.cls_token is not None

    def cut(self, model: Any, model_name: str) -> str:
        """Cut the head; windows give other features."""
        cut_head(model)
        self.windows, windowed = windows.plan(*self._windowed, len(model.blocks))
        return windowed


def create(model_name: str, model_args: dict[str, Any] | None, **defaults: Any) -> Any:
    """A timm model without classifier, its weights random; ``model_args`` win over ``defaults``.

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

    For the arguments see :class:`TimmTrunk`; ``ignored`` is its ``left_out``.

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
