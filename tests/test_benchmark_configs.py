"""The benchmarks' leaves: their form, and that each trains and evaluates on its own layout."""

import math
from pathlib import Path

import pytest
from mmengine.config import Config

from tests.benchmarks import LEAVES, tiny, write
from tests.fixtures import ROOT, Workplace, load, logged
from tests.sample import sampled
from tests.trees import FOLDERS, TREES

COUNT = 83
# Metrics that a run of a data set reports, the one that chooses the best checkpoint first; on COCO
# those of the head.
METRICS = {'nyu': ('rmse', 'd1', 'abs_rel'), 'voc': ('pascal_voc/mAP', 'pascal_voc/AP50')}
BOXES = ('coco/bbox_mAP',)
COCO = {
    'retinanet': BOXES,
    'faster-rcnn': BOXES,
    'dino': BOXES,
    'mask2former-panoptic': ('coco_panoptic/PQ', 'coco/bbox_mAP', 'coco/segm_mAP'),
}
# Of detectors, in epochs of the training images at batch 16.
ITERATIONS = {'40k': 40_000, '80k': 80_000, '160k': 160_000, 'voc-1x': 12 * 1034}
ITERATIONS |= {'coco-short': 3 * 7330, 'coco-1x': 12 * 7330, 'coco-3x': 36 * 7330}


def metrics(name):
    folder, _, file = name.partition('/')
    if folder == 'coco':
        return COCO.get(file.split('_')[2], ('coco/bbox_mAP', 'coco/segm_mAP'))
    return METRICS.get(folder, ('mIoU', 'mAcc', 'aAcc'))


def parse(name):
    return Config.fromfile(ROOT / f'configs/{name}.py')


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """All data sets, each in a folder of its own."""
    place = Workplace(tmp_path_factory.mktemp('benchmarks'))
    for folder, write_tree in TREES.items():
        write_tree(place.root / 'data' / folder)
    return place


# --- Form -----------------------------------------------------------------------------------


def test_all_are_there():
    assert len(LEAVES) == COUNT
    assert {name.split('/')[0] for name in LEAVES} == FOLDERS
    for folder in FOLDERS:
        tuners = {Path(name).name.split('_')[0] for name in LEAVES if name.startswith(f'{folder}/')}
        assert {'sigma', 'frozen', 'full'} <= tuners


@pytest.mark.parametrize('name', LEAVES)
def test_schedule_and_facts(name):
    config = parse(name)
    benchmark = name.rpartition('_')[2]
    iterations = ITERATIONS.get(benchmark) or ITERATIONS[benchmark.rpartition('-')[2]]
    assert config.train_cfg.max_iters == config.param_scheduler[-1].end == iterations
    assert iterations % config.train_cfg.val_interval == 0
    assert config.auto_scale_lr.base_batch_size == 16
    assert config.train_dataloader.sampler.type == 'mmsigma.PositionSeededSampler'
    for key in ('mean', 'std'):
        assert config.model.data_preprocessor[key] == config.normalisation[key]
    if not name.startswith(('coco/', 'voc/')):
        # One rate for everything that trains, and for every method.
        assert config.optim_wrapper.optimizer.lr == 1e-4
        assert 'custom_keys' not in config.optim_wrapper.paramwise_cfg
        assert config.param_scheduler[0].end == 1500
        assert config.model.test_cfg.crop_size == config.crop_size


@pytest.mark.parametrize('folder', sorted(FOLDERS))
def test_the_data_is_below_one_folder(folder, monkeypatch):
    monkeypatch.setenv('MMSIGMA_DATA', '/some/data')
    config = parse(next(name for name in LEAVES if name.startswith(f'{folder}/')))
    roots = {path for path in roots_in(config._cfg_dict.to_dict()) if path.startswith('/')}
    assert roots and all(path.startswith('/some/data/') for path in roots)
    monkeypatch.delenv('MMSIGMA_DATA')
    config = parse(next(name for name in LEAVES if name.startswith(f'{folder}/')))
    roots = {path for path in roots_in(config._cfg_dict.to_dict()) if path.startswith('/')}
    assert all(path.startswith(f'{ROOT.parent}/shared/data/') for path in roots)


def roots_in(node):
    """Every ``data_root`` inside a config."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if key == 'data_root':
            yield value
        elif isinstance(value, dict | list):
            yield from roots_in(value)


# --- Function -------------------------------------------------------------------------------


# One of every task.
TASKS = ('ade20k', 'coco', 'gta', 'nyu')
QUICK = {next(name for name in LEAVES if name.startswith(f'{f}/sigma')) for f in TASKS}


@pytest.mark.parametrize('name', sampled(LEAVES, QUICK.__contains__))
def test_trains_and_evaluates(name, place):
    work = place.root / Path(name).name
    config = write(place, name)
    assert place.call('train', config, '--work-dir', work) == 0
    losses = logged(work)
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses.values())
    own = metrics(name)
    for metric in own:
        assert math.isfinite(logged(work, metric)[2])
    assert list(work.glob(f'best_{own[0].replace("/", "_")}_iter_2.pth'))
    state = load(work / 'iter_2.pth')['state_dict']
    frozen = [n for n in state if n.startswith('backbone.trunk.')]
    assert bool(frozen) == ('full_' in name or 'lora_' in name or 'bitfit_' in name)


def test_generalisation_is_the_mean_of_three(place):
    name = 'gta/sigma_dinov2-b_mask2former-semantic_gta-512x512-40k'
    work = place.root / 'mean'
    assert place.call('train', write(place, name), '--work-dir', work) == 0
    values = {key: logged(work, f'{key}mIoU')[2] for key in
              ('', 'cityscapes/', 'bdd100k/', 'mapillary/')}  # fmt: skip
    mean = values.pop('')
    assert len(values) == 3
    assert mean == pytest.approx(sum(values.values()) / 3)


def test_reads_every_split(place):
    from mmengine.registry import DATASETS, init_default_scope

    expected = {
        'ade20k': (4, 3), 'cityscapes': (4, 3), 'coco': (5, 3), 'cocostuff164k': (4, 3),
        'context59': (4, 3), 'gta': (4, 6), 'loveda': (4, 4), 'nyu': (3, 2), 'potsdam': (4, 4),
        'voc': (5, 3), 'vocaug': (5, 3),
    }  # fmt: skip
    assert expected.keys() == FOLDERS
    for folder, counts in expected.items():
        name = next(n for n in LEAVES if n.startswith(f'{folder}/'))
        config = tiny(name, place.root / 'data' / folder)
        init_default_scope(config.default_scope)
        loaders = (config.train_dataloader, config.val_dataloader)
        assert tuple(len(DATASETS.build(loader.dataset)) for loader in loaders) == counts
