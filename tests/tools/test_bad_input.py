"""What a user can get wrong: the tools say it in one line, and change nothing in the work dir."""

import shutil
import time

import numpy as np
import pytest
from PIL import Image

from tests.fixtures import hashes, load, logged, write_camvid


@pytest.fixture(scope='module')
def run(place):
    """A good run of four iterations, and the config it was trained with."""
    place.good = place.config(iters=4, interval=2)
    assert place.call('train', place.good, '--work-dir', 'good') == 0
    place.dir = place.root / 'good'
    place.last = place.dir / 'iter_4.pth'
    place.files = hashes(place.dir)
    time.sleep(1.1)  # MMEngine names logs by the second; a bad run shall have its own
    return place


def check(run, capsys, tool, *arguments, words, config=None):
    """Run a tool in the good run's folder: it must fail, name ``words`` and touch nothing."""
    capsys.readouterr()
    code = run.call(tool, config or run.good, *arguments, '--work-dir', run.dir)
    error = capsys.readouterr().err.split('\nerror: ')
    assert len(error) == 2, error
    assert code == (3 if 'finite' in error[1] else 1)  # 3 tells grids that no retry will help
    assert 'Traceback' not in error[1]
    for word in words:
        assert word in error[1], f'{word!r} not in {error[1]!r}'
    after = hashes(run.dir)
    assert run.files.items() <= after.items()
    assert not [name for name in after.keys() - run.files.keys() if name.endswith('.pth')]
    return error[1]


# --- What the config says -------------------------------------------------------------------

OPTIONS = {
    'trunk': (
        ['model.backbone.trunk.type=TimmVit'],
        ["trunk 'TimmVit'", "Did you mean 'TimmViT'", 'MMPretrainViT'],
    ),
    'tuner': (
        ['model.backbone.tuner.type=SIGNA'],
        ["tuner 'SIGNA'", "Did you mean 'SIGMA'", 'Frozen'],
    ),
    'model': (
        ['model.backbone.trunk.model_name=vit_small_patch14_dinov3'],
        ["timm model 'vit_small_patch14_dinov3'", 'vit_small_patch14_dinov2', 'timm.list_models()'],
    ),
    'position': (
        ['model.backbone.tuner.position=after_blok'],
        ["position 'after_blok'", "Did you mean 'after_block'", 'parallel_mlp'],
    ),
    'block': (
        ['model.backbone.tuner.blocks=[0,9]'],
        ['SIGMA blocks [0, 9]', '4 blocks', '0 to 3'],
    ),
    'even kernel': (
        ['model.backbone.tuner.kernel_sizes=[3,4]'],
        ['kernel_sizes must be odd', '[3, 4]', 'default is [3, 5, 7]'],
    ),
    'width of zero': (
        ['model.backbone.tuner.bottleneck=0'],
        ['SIGMA bottleneck must be a whole number >= 1', 'given: 0'],
    ),
    'width above the trunk': (
        ['model.backbone.tuner.bottleneck=33'],
        ['SIGMA bottleneck 33 is larger than the width', 'use at most 32'],
    ),
    'trunk that cannot carry it': (
        ['model.backbone.trunk.type=TimmGeneric', 'model.backbone.tuner.position=after_mlp'],
        ['Block 0 of this trunk', 'runs as a whole', 'Use after_block'],
    ),
    'argument': (
        ['model.backbone.tuner.bottlenek=8'],
        ['setting of model.backbone.tuner', "'bottlenek'", "Did you mean 'bottleneck'"],
    ),
    'unrelated argument': (
        ['model.backbone.tuner.rank=8'],
        ["argument of tuner SIGMA 'rank'", 'bottleneck'],
    ),
    'weights': (
        ['model.backbone.trunk.weights=nowhere/dinov2.pth'],
        ["'nowhere/dinov2.pth' do not exist", 'the folder nowhere does not exist', "'hub'"],
    ),
    'misspelt key': (
        ['model.bacbone.trunk.mode=train'],
        ["setting of model 'bacbone'", "Did you mean 'backbone'"],
    ),
    'key that nothing reads': (
        ['learning.rate=1'],
        ["setting of the config 'learning'", 'Known: ', 'See the config'],
    ),
    'key inside a value': (
        ['train_cfg.max_iters.warm_up=1'],
        ['--cfg-options train_cfg.max_iters.warm_up', 'train_cfg.max_iters is 4', "'warm_up'"],
    ),
    'index': (
        ['custom_hooks.12.type=Hook'],
        ['custom_hooks.12.type', 'a list of 11', "'12' is none of them"],
    ),
    'data root': (
        ['train_dataloader.dataset.data_root=/nowhere/camvid'],
        ['train_dataloader', "data_root '/nowhere/camvid' does not exist", 'MMSIGMA_DATA'],
    ),
    'validation images': (
        ['val_dataloader.dataset.data_prefix.img_path=img_dir/dev'],
        ['val_dataloader', "img_dir/dev' does not exist", 'holds test, train, val'],
    ),
    'test labels': (
        ['test_dataloader.dataset.data_prefix.seg_map_path=masks'],
        ['test_dataloader', "masks' does not exist", 'holds ann_dir, img_dir'],
    ),
    'image suffix': (
        ['train_dataloader.dataset.img_suffix=.tif'],
        ['img_dir/train holds no *.tif images (found: .jpg)', 'Set img_suffix'],
    ),
    'head': (
        ['model.decode_head.num_classes=5'],
        ['head predicts 5 classes, the dataset has 11', 'Set num_classes of the head to 11'],
    ),
    'load_from': (
        ['load_from=good/iter_9.pth'],
        ["no checkpoint 'good/iter_9.pth'", 'good holds', 'iter_4.pth'],
    ),
    'not a number': (
        ['model.decode_head.loss_decode.loss_weight=nan'],
        ['loss is not finite at iteration 1', 'loss_ce', 'learning rate', '--resume'],
    ),
    'learning rate': (
        ['optim_wrapper.optimizer.lr=1e30', 'param_scheduler=[]'],
        ['iteration', 'learning rate'],
    ),
}


@pytest.mark.parametrize('name', OPTIONS)
def test_training_refuses(run, capsys, name):
    options, words = OPTIONS[name]
    check(run, capsys, 'train', '--cfg-options', *options, words=words)


def test_settings_that_a_config_leaves_out_may_be_added(run):
    """The check of names lets pass what MMEngine or a constructor reads."""
    options = [
        'default_hooks.checkpoint.save_last=False',
        'model.backbone.trunk.mode=eval',
        'model.backbone.trunk.model_args.qkv_bias=True',
        'train_dataloader.drop_last=True',
        'auto_scale_lr.enable=False',
        'custom_hooks.1.priority=VERY_HIGH',
        'default_scope=mmseg',
    ]
    assert run.call('params', run.good, '--cfg-options', *options) == 0


def test_weights_cannot_be_saved_when_broken(run, capsys):
    """An infinite step behind a finite loss: the error comes before the checkpoint is written."""
    config = run.config(
        "\noptim_wrapper['optimizer'] = dict(_delete_=True, type='SGD', lr=float('inf'))\n"
        "optim_wrapper['clip_grad'] = None\nparam_scheduler = []\n",
        iters=4,
        interval=1,
    )
    words = ['After iteration 1', 'infinite or NaN', 'not saved']
    check(run, capsys, 'train', config=config, words=words)


@pytest.mark.parametrize(
    ('settings', 'words'),
    [
        ("r=4, target_modules=['q_proj']", ['nothing in timm/vit', "called 'q_proj'", 'proj, qkv']),
        ("r=0, target_modules=['fc1']", ['LORA `r` must be a whole number >= 1; given: 0']),
        ("r=33, target_modules=['fc1']", ['`r` 33 is larger than the width', 'use at most 32']),
    ],
    ids=['no such target', 'rank of zero', 'rank above the width'],
)
def test_lora_that_cannot_work(run, capsys, settings, words):
    tuner = f"dict(_delete_=True, type='HFPeft', peft_type='LORA', {settings})"
    config = run.config(f"\nmodel['backbone']['tuner'] = {tuner}\n")
    check(run, capsys, 'train', words=words, config=config)


@pytest.mark.parametrize(
    ('path', 'words'),
    [
        ('nothing.py', ["no config '", 'nothing.py', 'tiny_1.py']),
        ('nowhere/tiny.py', ["no config '", 'nowhere/tiny.py', 'holds none']),
    ],
)
def test_no_such_config(run, capsys, path, words):
    check(run, capsys, 'train', config=run.root / path, words=words)


# --- Data -----------------------------------------------------------------------------------


def broken_data(run, name):
    root = run.root / name
    write_camvid(root)
    return root / 'camvid', [
        f'{split}_dataloader.dataset.data_root={root}/camvid' for split in ('train', 'val', 'test')
    ]


def test_a_folder_without_images(run, capsys):
    root, options = broken_data(run, 'no_images')
    shutil.rmtree(root / 'img_dir/val')
    (root / 'img_dir/val').mkdir()
    words = ['val_dataloader', 'img_dir/val holds no *.jpg images (found: none)', 'data_root']
    check(run, capsys, 'train', '--cfg-options', *options, words=words)


@pytest.mark.parametrize('split', ['train', 'val', 'test'])
def test_labels_outside_the_classes(run, capsys, split):
    root, options = broken_data(run, f'labels_{split}')
    path = root / f'ann_dir/{split}/001.png'
    label = np.array(Image.open(path))
    label[30] = 11
    Image.fromarray(label).save(path)
    words = [str(path), 'labels [11]', '11 classes (0 to 10, and 255', 'label_map']
    error = check(run, capsys, 'train', '--cfg-options', *options, words=words)
    if split == 'test':
        tested = check(run, capsys, 'test', run.last, '--cfg-options', *options, words=words)
        assert tested == error


@pytest.mark.parametrize('how', ['missing', 'truncated'])
def test_label_files(run, capsys, how):
    root, options = broken_data(run, how)
    path = root / 'ann_dir/train/002.png'
    path.write_bytes(path.read_bytes()[:20]) if how == 'truncated' else path.unlink()
    words = [str(path), 'does not exist' if how == 'missing' else 'cannot be read']
    check(run, capsys, 'train', '--cfg-options', *options, words=words)


# --- Checkpoints ----------------------------------------------------------------------------


def test_nothing_to_resume(run, capsys):
    empty = run.root / 'empty'
    capsys.readouterr()
    assert run.call('train', run.good, '--work-dir', empty, '--resume') == 1
    error = capsys.readouterr().err
    assert f'--resume found no checkpoint: {empty} does not exist or holds none' in error
    assert 'Leave --resume out' in error
    assert not empty.exists()


def truncated(run):
    path = run.root / 'truncated.pth'
    path.write_bytes(run.last.read_bytes()[:5000])
    return path


def no_checkpoint(run):
    path = run.root / 'text.pth'
    path.write_text('version https://git-lfs.github.com/spec/v1\n')
    return path


def best(run):
    return next(run.dir.glob('best_*.pth'))


CHECKPOINTS = {
    'missing': (lambda run: run.dir / 'iter_9.pth', ['iter_9.pth', 'iter_4.pth']),
    'truncated': (truncated, ['truncated.pth (5,000 bytes) cannot be read', 'truncated or']),
    'text': (no_checkpoint, ['text.pth (43 bytes) cannot be read', 'holds']),
}


@pytest.mark.parametrize('name', CHECKPOINTS)
@pytest.mark.parametrize('tool', ['resume', 'load_from', 'test'])
def test_unreadable_checkpoints(run, capsys, tool, name):
    make, words = CHECKPOINTS[name]
    path = make(run)
    arguments = {
        'resume': ('train', '--resume', path),
        'load_from': ('train', '--cfg-options', f'load_from={path}'),
        'test': ('test', path),
    }[tool]
    check(run, capsys, *arguments, words=words)


def test_a_run_whose_newest_checkpoint_is_damaged_goes_on_from_the_one_before(run):
    work_dir = run.root / 'damaged'
    assert run.call('train', run.good, '--work-dir', work_dir) == 0
    losses = logged(work_dir)
    newest = work_dir / 'iter_4.pth'
    newest.write_bytes(newest.read_bytes()[:5000])
    assert run.call('train', run.good, '--work-dir', work_dir, '--resume') == 0
    assert logged(work_dir) == losses
    assert load(newest)['state_dict']


def test_a_best_checkpoint_cannot_be_resumed(run, capsys):
    words = ['best_mIoU', 'no optimiser state', 'iter_', 'load_from']
    check(run, capsys, 'train', '--resume', best(run), words=words)


REFUSED = {
    'another trunk': (
        ['model.backbone.trunk.model_name=vit_small_patch16_224'],
        # Not the record but the weight file speaks first; with weights of that model, see below.
        ['do not fit this architecture', 'unknown keys'],
    ),
    'another trunk, random': (
        [
            'model.backbone.trunk.model_name=vit_small_patch16_224',
            'model.backbone.trunk.weights=random',
        ],
        ['timm/vit_small_patch14_dinov2', 'timm/vit_small_patch16_224', 'Use the config'],
    ),
    'random weights': (
        ['model.backbone.trunk.weights=random'],
        ['other weights', 'pretrained weights', 'random weights', 'Set `weights`'],
    ),
    'other adapters': (
        ['model.backbone.tuner.bottleneck=4', 'model.backbone.tuner.gate=mean'],
        ['bottleneck: 8 in the checkpoint, 4 in the config', "gate: 'channel'", "'mean'"],
    ),
    'another head': (
        ['model.decode_head.channels=8'],
        ['does not fit the model', 'misshapen', 'decode_head.', 'ignore='],
    ),
}


@pytest.mark.parametrize('name', REFUSED)
@pytest.mark.parametrize('tool', ['resume', 'load_from', 'test'])
def test_checkpoints_that_do_not_fit(run, capsys, tool, name):
    options, words = REFUSED[name]
    arguments = {
        'resume': ('train', '--resume', '--cfg-options'),
        'load_from': ('train', '--cfg-options', f'load_from={run.last}'),
        'test': ('test', run.last, '--cfg-options'),
    }[tool]
    check(run, capsys, *arguments, *options, words=words)


def test_a_checkpoint_of_another_tuner(run, capsys):
    config = run.config("\nmodel['backbone']['tuner'] = dict(_delete_=True, type='Frozen')\n")
    words = ["type: 'SIGMA' in the checkpoint, 'Frozen' in the config"]
    check(run, capsys, 'test', run.last, words=words, config=config)


# --- Mixed precision ------------------------------------------------------------------------


def test_amp(run, capsys):
    words = ['--amp needs', "'OptimWrapperDict'"]
    option = 'optim_wrapper.type=OptimWrapperDict'
    check(run, capsys, 'train', '--amp', '--cfg-options', option, words=words)


# --- From the command line ------------------------------------------------------------------


def test_as_users_see_it(run):
    """One line on stderr behind the log, no traceback, status 1."""
    result = run.spawn(
        'train', run.good, '--work-dir', 'good', '--resume', '--cfg-options',
        'model.backbone.tuner.bottleneck=4',
    )  # fmt: skip
    assert result.returncode == 1
    assert 'Traceback' not in result.stderr
    assert 'error: ' in result.stderr and 'bottleneck: 8 in the checkpoint' in result.stderr
    assert run.files.items() <= hashes(run.dir).items()
