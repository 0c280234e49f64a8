"""Where modules of earlier versions are now, for configs that still name them.

An import that nothing else can serve comes here, also one by ``custom_imports`` or by a ``type``
with a full path: the table is read then, and the error says the new name.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from mmsigma.errors import InvalidSettingError, MMSigmaError

# Old -> new; what is not named went along with its package.
MOVED = {
    'mmsigma.adapter_files': 'mmsigma.checkpoint.adapter_files',
    'mmsigma.analysis': 'mmsigma.experiments',
    'mmsigma.analysis.batch': 'mmsigma.experiments.slurm',
    'mmsigma.analysis.combinations': 'mmsigma.config.combinations',
    'mmsigma.analysis.data': 'mmsigma.datasets.inspection',
    'mmsigma.analysis.data_files': 'mmsigma.datasets.sample_check',
    'mmsigma.analysis.data_sheet': 'mmsigma.visualization.contact_sheet',
    'mmsigma.analysis.kept': 'mmsigma.models.execution.activation_memory',
    'mmsigma.analysis.params': 'mmsigma.apis.params',
    'mmsigma.analysis.pictures': 'mmsigma.visualization.pictures',
    'mmsigma.backbone': 'mmsigma.models.adapted_backbone',
    'mmsigma.compiled': 'mmsigma.models.execution.compiled',
    'mmsigma.deferred': 'mmsigma.engine.deferred',
    'mmsigma.distributed': 'mmsigma.engine.distributed',
    'mmsigma.files': 'mmsigma.checkpoint.atomic_write',
    'mmsigma.graphs': 'mmsigma.models.execution.cuda_graphs',
    'mmsigma.heads': 'mmsigma.models.heads',
    'mmsigma.hooks': 'mmsigma.engine.hooks',
    'mmsigma.injection': 'mmsigma.models.tuners.injection',
    'mmsigma.kernels': 'mmsigma.models.ops',
    'mmsigma.launch': 'mmsigma.engine.launch',
    'mmsigma.layout': 'mmsigma.models.trunks.tokens',
    'mmsigma.leaf_model': 'mmsigma.config.model',
    'mmsigma.leaves': 'mmsigma.config.recipe',
    'mmsigma.merge': 'mmsigma.checkpoint.merge',
    'mmsigma.merged_files': 'mmsigma.checkpoint.merged_model',
    'mmsigma.necks': 'mmsigma.models.necks',
    'mmsigma.one_pass': 'mmsigma.apis.shared_forward',
    'mmsigma.optim': 'mmsigma.engine.optimizers',
    'mmsigma.prediction_files': 'mmsigma.apis.predictions',
    'mmsigma.reach': 'mmsigma.engine.distributed.wait_for_port',
    'mmsigma.recompute': 'mmsigma.models.execution.activation_checkpointing',
    'mmsigma.tasks': 'mmsigma.apis.multi_task',
    'mmsigma.trunks': 'mmsigma.models.trunks',
    'mmsigma.trunks.layouts': 'mmsigma.models.trunks.weights.layouts',
    'mmsigma.trunks.position': 'mmsigma.models.trunks.weights.position',
    'mmsigma.trunks.release_layout': 'mmsigma.models.trunks.weights.release_layout',
    'mmsigma.trunks.transformers_layout': 'mmsigma.models.trunks.weights.transformers_layout',
    'mmsigma.trunks.weights': 'mmsigma.models.trunks.weights.loading',
    'mmsigma.tuners': 'mmsigma.models.tuners',
    'mmsigma.tuners.depthwise': 'mmsigma.models.ops.depthwise',
}


def install() -> None:
    """Ask here last; a second call changes nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


def cause(error: BaseException) -> MMSigmaError | None:
    """The error of ours that another was raised from, as MMEngine does for a ``type``."""
    found = error.__context__
    while found is not None and not isinstance(found, MMSigmaError):
        found = found.__context__
    return found


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in MOVED:
            return None
        # No ImportError: MMEngine would put one of its own, without a reason, in its place.
        inner = {old: new for old, new in MOVED.items() if old.startswith(f'{fullname}.')}
        further = ''.join(f' {old} is {new}.' for old, new in inner.items())
        raise InvalidSettingError(
            f'There is no module {fullname} any more: it is {MOVED[fullname]} now.{further} '
            'Change the config that names it in `custom_imports` or as a `type`; registered '
            'names, such as mmsigma.AdaptedBackbone, have stayed.'
        )
