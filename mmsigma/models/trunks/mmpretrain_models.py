"""What every family of trunks that mmpretrain serves shares: its backbone and its weights."""

import hashlib
import inspect
import json
import logging
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger, print_log
from torch import Tensor

from mmsigma.errors import InvalidSettingError, WeightsError
from mmsigma.models.trunks.base import Trunk
from mmsigma.models.trunks.block import PROMPTS, USUAL, Block
from mmsigma.models.trunks.residual_steps import Names
from mmsigma.models.trunks.tokens import TokenLayout, TokenState
from mmsigma.models.trunks.weights import loading as weight_files

Arch = str | Path | dict[str, Any]
Convert = Callable[[dict[str, Tensor], str], None]

# What most of mmpretrain's models call the parts of their blocks.
BLOCK = Names(norms=('ln1', 'ln2'), mlp='ffn')

# The family that runs a class of mmpretrain's.
FAMILIES = {
    'VisionTransformer': 'MMPretrainViT',
    'BEiTViT': 'MMPretrainBEiT',
    'ViTEVA02': 'MMPretrainEVA02',
    'ViTSAM': 'MMPretrainSAM',
    'SwinTransformer': 'MMPretrainSwin',
    'SwinTransformerV2': 'MMPretrainSwinV2',
}
# Arguments about what is returned and how it is trained: the trunk decides about both.
_OURS = (
    'type',
    'init_cfg',
    'out_type',
    'out_indices',
    'out_channels',
    'out_after_downsample',
    'frozen_stages',
    'norm_eval',
    'with_cp',
)
_PREFIX = 'backbone.'
# What upstream computes from grids and window sizes when a model is built; files repeat it.
_COMPUTED = ('relative_position_index', 'relative_coords_table', 'freqs_cos', 'freqs_sin')


class MMPretrainTrunk(Trunk):
    """A backbone of mmpretrain's.

    Args:
        arch: A name of mmpretrain's ``arch_zoo``, such as ``'base'``, a dict that upstream takes
            in its place, or the path of an mmpretrain config (``.py``) whose ``model.backbone`` is
            built.
        weights: A local mmpretrain checkpoint (with or without ``backbone.`` before its keys), or
            ``'random'``.
        mode, dtype: See :class:`~mmsigma.models.trunks.base.Trunk`.
        model_args: Further arguments of the model, e.g. ``dict(img_size=518, patch_size=14)``.

    Raises:
        InvalidSettingError: mmpretrain refuses ``arch`` or ``model_args``, or the config builds
            another backbone.
        WeightsError: The weights cannot be read or loaded.

    Attributes:
        upstream: mmpretrain's name of the class.
        left_out: Prefixes of keys of weights that the trunk has no place for.
    """

    builds_without_values = False
    provides = USUAL
    upstream: ClassVar[str]
    left_out: ClassVar[tuple[str, ...]]

    def _build(
        self,
        arguments: dict[str, Any],
        weights: str,
        state: dict[str, Tensor] | None,
        mode: str,
        dtype: str,
        **fixed: Any,
    ) -> None:
        """Build the backbone with what the family fixes, and load what :func:`read` found."""
        model = create(self.upstream, arguments, **fixed)
        load(model, state, weights, self.left_out, *self.converts(model))
        super().__init__(model, label(model, arguments), state is not None, mode, dtype)
        self.upstream_arguments = arguments
        self.patch = model.patch_embed.projection.stride[0]

    def converts(self, model: Any) -> list[Convert]:
        """What brings weights of another image size into the model's shapes; see :func:`load`."""
        return [model._prepare_pos_embed]


class PlainMMPretrainTrunk(MMPretrainTrunk):
    """A plain transformer of mmpretrain's with a class token and a final norm.

    Args:
        arch, weights, mode, dtype, model_args: See :class:`MMPretrainTrunk`.
        final_norm: Whether output maps pass the model's final norm; None: as upstream or the config
            has it.
    """

    left_out: ClassVar[tuple[str, ...]] = ('ln2.',)
    normed: ClassVar[bool] = True  # what upstream's class does unless it is told
    names: ClassVar[Names] = BLOCK

    def __init__(
        self,
        arch: Arch,
        weights: str,
        mode: str = 'eval',
        dtype: str = 'float32',
        final_norm: bool | None = None,
        model_args: dict[str, Any] | None = None,
    ) -> None:
        arguments = settings(self.upstream, arch, model_args)
        state = read(self.upstream, weights)
        own = arguments.pop('final_norm', self.normed)
        self.final_norm = own if final_norm is None else final_norm
        # Built wherever the weights have it, so that the fingerprint is the same without.
        built = self.final_norm or (own if state is None else 'ln1.weight' in state)
        self._build(arguments, weights, state, mode, dtype, out_type='featmap', final_norm=built)
        if built and not self.final_norm:
            del self.model.ln1
        self.has_class_token = self.model.cls_token is not None

    def embed(self, images: Tensor) -> tuple[Tensor, TokenState]:
        """Patch, class token and position embedding; see :meth:`Trunk.embed`."""
        model = self.model
        tokens, (height, width) = model.patch_embed(images.to(self.dtype))
        if model.cls_token is not None:
            tokens = torch.cat((model.cls_token.expand(len(tokens), -1, -1), tokens), dim=1)
        if model.pos_embed is not None:
            tokens = tokens + model.resize_pos_embed(
                model.pos_embed,
                model.patch_resolution,
                (height, width),
                mode=model.interpolate_mode,
                num_extra_tokens=model.num_extra_tokens,
            )
        layout = TokenLayout(height, width, model.num_extra_tokens, self.has_class_token)
        return model.pre_norm(model.drop_after_pos(tokens)), TokenState(layout)

    def blocks(self) -> list[Block]:
        """The encoder layers; see :meth:`Trunk.blocks`."""
        facts: Any = {'stride': self.patch, 'prompts': PROMPTS in self.provides}
        return [
            self.names.block(b, self.model.embed_dims, partial(self.attend, b, i), **facts)
            for i, b in enumerate(self.model.layers)
        ]

    @staticmethod
    def attend(layer: Any, index: int, x: Tensor, state: TokenState) -> Tensor:
        """Attention of the layer with this index; ``(B, N, C)`` as ``x``."""
        return layer.attn(x)

    def norm(self, tokens: Tensor, index: int) -> Tensor:
        """The final norm; see :meth:`Trunk.norm`."""
        return self.model.ln1(tokens) if self.final_norm else tokens


def settings(name: str, arch: Arch, model_args: dict[str, Any] | None) -> dict[str, Any]:
    """The arguments of an mmpretrain backbone.

    ``model_args`` win over the config's; for the rest see :class:`MMPretrainTrunk`.

    Raises:
        InvalidSettingError: The config has no such backbone, or ``model_args`` has an argument that
            the trunk decides about.
    """
    from_file = isinstance(arch, str | Path) and str(arch).endswith('.py')
    found = _from_config(name, str(arch)) if from_file else {'arch': arch}
    given = dict(model_args or {})
    refused = [key for key in given if key in (*_OURS, 'arch', 'final_norm')]
    if refused:
        raise InvalidSettingError(
            f'model_args={model_args} has {", ".join(map(repr, refused))}, which the trunk sets. '
            '`arch` and `final_norm` are arguments of the trunk, output blocks (`out_indices`) of '
            'the backbone; the tuner decides what trains.'
        )
    return found | given


def _from_config(name: str, path: str) -> dict[str, Any]:
    family = FAMILIES[name]
    if not Path(path).is_file():
        raise InvalidSettingError(
            f'{family} was given the config {path!r}, which does not exist. mmpretrain has its '
            'configs in .mim/configs/ of the installed package.'
        )
    try:
        config = Config.fromfile(path).to_dict()
    except Exception as error:  # a config is a program: it can raise anything
        raise InvalidSettingError(f'The config {path!r} cannot be read: {error}.') from error
    model = config.get('model')
    backbone = model.get('backbone') if isinstance(model, dict) else None
    if not isinstance(backbone, dict) or 'type' not in backbone:
        raise InvalidSettingError(
            f'The config {path!r} has no model.backbone with a type: give one that builds a model '
            "of mmpretrain's, or an `arch` by name."
        )
    given = backbone['type']
    found = getattr(given, '__name__', str(given)).rpartition('.')[2]
    if found != name:
        served = FAMILIES.get(found)
        advice = (
            f'Use trunk=dict(type={served!r}, ...)'
            if served
            else f'mmsigma runs {", ".join(FAMILIES)}; the weights of a pretraining variant of one '
            'of these load with its `arch` and `model_args` given by hand'
        )
        raise InvalidSettingError(f'{family} runs a {name}, but {path!r} has a {found}. {advice}.')
    return {key: value for key, value in backbone.items() if key not in _OURS}


def create(name: str, arguments: dict[str, Any], **fixed: Any) -> Any:
    """An mmpretrain backbone, its weights not yet initialised, with what the family fixes.

    Raises:
        InvalidSettingError: mmpretrain refuses the arguments.
    """
    # Imported here: mmpretrain is heavy, and only its own families need it.
    import mmpretrain.models

    cls = getattr(mmpretrain.models, name)
    try:
        model = cls(**arguments, **fixed)
    except (TypeError, ValueError, AssertionError, LookupError) as error:
        others = {key: value for key, value in arguments.items() if key != 'arch'}
        raise InvalidSettingError(
            f'mmpretrain cannot build {name}(arch={arguments.get("arch")!r}) with '
            f'model_args={others}: {error}.'
        ) from error
    for module in model.modules():
        # FFNs shall return their branch; AdapterBank adds the identity, as it does for all.
        if hasattr(module, 'add_identity'):
            module.add_identity = False
    return model


def label(model: Any, arguments: dict[str, Any]) -> str:
    """Name of a trunk: upstream's class and ``arch``, or a short hash of one that is a dict."""
    name = type(model).__name__
    arch = arguments.get('arch', inspect.signature(type(model)).parameters['arch'].default)
    if not isinstance(arch, str):
        text = json.dumps(arch, sort_keys=True)
        arch = f'custom-{hashlib.sha256(text.encode()).hexdigest()[:8]}'
    return f'mmpretrain/{name}-{arch.lower()}'


def read(name: str, weights: str) -> dict[str, Tensor] | None:
    """The backbone's tensors in a checkpoint of mmpretrain's; None for random weights.

    Raises:
        WeightsError: The file cannot be read.
    """
    if weights == 'random':
        return None
    if weights == 'hub':
        raise WeightsError(
            f"{FAMILIES[name]} has no 'hub' weights: download a checkpoint of mmpretrain's model "
            'zoo and give the file as `weights`, or use a family of timm such as TimmViT, which '
            'has them.'
        )
    state = weight_files.read(weights)
    found = {k.removeprefix(_PREFIX): v for k, v in state.items() if k.startswith(_PREFIX)}
    if not found:
        return state
    # The rest of a classifier's checkpoint is its neck and head.
    others = sorted({k.partition('.')[0] for k in state} - {_PREFIX[:-1]})
    if others:
        print_log(
            f'Trunk weights {weights!s}: left out all but the backbone ({", ".join(others)}).',
            logger='current',
        )
    return found


def load(
    model: Any,
    state: dict[str, Tensor] | None,
    source: str,
    ignored: Sequence[str],
    *converts: Convert,
) -> None:
    """Load what :func:`read` found, strictly; without it, initialise as upstream does.

    Args:
        model: The backbone.
        state: Its tensors, or None.
        source: Where they come from, for messages.
        ignored: The family's ``left_out``.
        converts: Called as ``convert(state, '')``; each edits the tensors in place, as mmpretrain's
            own loading does: for another image size, from an older version.

    Raises:
        WeightsError: They do not fit.
    """
    for module in model.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            if name in _COMPUTED:
                module.register_buffer(name, buffer, persistent=False)
    if state is None:
        if not any(parameter.is_meta for parameter in model.parameters()):
            _initialise(model)  # MMEngine's reads values, which the meta device has not
        return
    state = {key: value for key, value in state.items() if not key.endswith(_COMPUTED)}
    before = {key: tuple(value.shape) for key, value in state.items()}
    try:
        for convert in converts:
            convert(state, '')
    except (RuntimeError, ValueError, AssertionError, LookupError) as error:
        raise WeightsError(
            f'Trunk weights {source!r} do not fit this architecture: they cannot be resized to '
            f'its image or window size ({type(error).__name__}: {error}). Give the weights of this '
            'architecture, or the architecture of these weights.'
        ) from error
    resized = [
        f'{key} {before[key]} -> {tuple(value.shape)}'
        for key, value in state.items()
        if key in before and tuple(value.shape) != before[key]
    ]
    weight_files.load(model, state, source, ignored)
    if resized:
        named = '; '.join([*resized[:3], '...'] if len(resized) > 3 else resized)
        print_log(
            f'Trunk weights {source!s}: {len(resized)} tensors were resized, as mmpretrain does '
            f'for another image or window size: {named}. Trunks take images of any size '
            'without: give the `img_size` and `window_size` of the weights in model_args, unless '
            'this is meant.',
            logger='current',
            level=logging.WARNING,
        )


def resize_table(table: Tensor, source: tuple[int, int], target: tuple[int, int]) -> Tensor:
    """A table of relative position biases for another window.

    The method is BEiT's, as ``mmpretrain.models.utils.resize_relative_position_bias_table`` has it:
    a cubic spline through points whose distances grow geometrically from the centre. That function
    calls what SciPy removed in version 1.14, and knows squares only. This one treats rows and
    columns apart, so it does all shapes, and is differentiable.

    Args:
        table: ``(..., (2 * h - 1) * (2 * w - 1), heads)``.
        source: Its window ``(h, w)``, in tokens.
        target: The other window.
    """
    rows, columns = (
        _spline(2 * old - 1, 2 * new - 1).to(table.device)
        for old, new in zip(source, target, strict=True)
    )
    grid = table.double().unflatten(-2, (2 * source[0] - 1, 2 * source[1] - 1))
    grid = torch.einsum('ij,...jkh->...ikh', rows, grid)
    resized = torch.einsum('lk,...ikh->...ilh', columns, grid)
    return resized.flatten(-3, -2).to(table.dtype)


@lru_cache(maxsize=64)
def _spline(source: int, target: int) -> Tensor:
    """The matrix ``(target, source)`` that resamples one side of a table, float64."""
    import numpy as np
    from scipy.interpolate import make_interp_spline  # type: ignore[import-untyped]

    with torch.inference_mode(False):  # it is kept, so it must serve training too
        if source == target:
            return torch.eye(source, dtype=torch.float64)
        low, high, ratio = 1.01, 1.5, 1.01
        while high - low > 1e-6:
            ratio = (low + high) / 2
            if (1 - ratio ** (source // 2)) / (1 - ratio) > target // 2:
                high = ratio
            else:
                low = ratio
        side = np.cumsum(ratio ** np.arange(source // 2))
        known = np.concatenate((-side[::-1], [0.0], side))
        wanted = np.arange(target, dtype=float) - target // 2
        spline = make_interp_spline(known, np.eye(source), k=min(3, source - 1))
        return torch.from_numpy(spline(wanted.clip(known[0], known[-1])))


def _initialise(model: Any) -> None:
    """Upstream's initialisation, without the four lines that MMEngine logs of every tensor."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        model.init_weights()
    finally:
        logger.setLevel(level)
