"""What a run is about besides its method: the facts that two figures must share to be compared."""

from collections.abc import Mapping
from typing import Any


def of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Trunk, head, data set and length of a run, as its config says.

    Args:
        config: An mmseg or mmdet config.

    Returns:
        ``trunk``, the name of its release (timm's model, or the stem of its weights file);
        ``head``, the class of the segmentation head or of the detector; ``dataset``, the folder of
        the training data and the file that lists them, if one does; ``batch``, images per step and
        process; ``steps``, or ``epochs`` where the config counts those. None stands for what a
        config does not say.
    """
    model, loader = config.get('model') or {}, config.get('train_dataloader') or {}
    trunk = (model.get('backbone') or {}).get('trunk') or {}
    file = str(trunk.get('weights') or '').rpartition('/')[2].rpartition('.')[0]
    head = model.get('decode_head') or model
    length = config.get('train_cfg') or {}
    return {
        'trunk': trunk.get('model_name') or file or trunk.get('type'),
        'head': _plain(head.get('type')),
        'dataset': _dataset(loader.get('dataset') or {}),
        'batch': loader.get('batch_size'),
        **({'epochs': length['max_epochs']} if length.get('max_epochs') else {}),
        **({'steps': length['max_iters']} if length.get('max_iters') else {}),
    }


def _plain(name: object) -> str | None:
    """A class without its scope."""
    return str(name).rpartition('.')[2] if name else None


def _dataset(dataset: Mapping[str, Any]) -> str | None:
    """Folder and annotations: the class says too little, e.g. of GTAV in Cityscapes' form."""
    inner = dataset.get('dataset') or dataset.get('datasets')
    if isinstance(inner, list | tuple):
        return ' + '.join(filter(None, map(_dataset, inner)))
    if inner:
        return _dataset(inner)
    root = str(dataset.get('data_root') or '').rstrip('/').rpartition('/')[2]
    listed = str(dataset.get('ann_file') or '')
    if listed.startswith('/'):
        listed = '/'.join(listed.split('/')[-2:])
    return '/'.join(filter(None, [root, listed])) or _plain(dataset.get('type'))
