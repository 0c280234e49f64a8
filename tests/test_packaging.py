"""What a release or a fresh clone relies on: packaging, licence, scripts, no stray paths."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import yaml

from mmsigma import __main__ as command
from tests.fixtures import TINY, Workplace

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob('tools/*.sh'))
LAUNCHERS = [script for script in SCRIPTS if re.search(r'(dist|slurm)_', script)]


def run(*command, **env):
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, timeout=60
    )


def read(path):
    return (ROOT / path).read_text(encoding='utf-8')


@pytest.fixture(scope='module')
def setup_arguments():
    with mock.patch('setuptools.setup') as setup:
        runpy.run_path(str(ROOT / 'setup.py'))
    return setup.call_args.kwargs


# --- Package -------------------------------------------------------------------------------


def test_version_has_one_source():
    version = runpy.run_path(str(ROOT / 'mmsigma' / 'version.py'))['__version__']
    result = run(sys.executable, 'setup.py', '--version')
    assert result.stdout.split()[-1] == version, result.stderr
    assert f'\nversion: {version}\n' in read('CITATION.cff')


def test_setup_does_not_import_torch():
    code = "import runpy, sys; runpy.run_path('setup.py'); sys.exit('torch' in sys.modules)"
    result = run(sys.executable, '-c', f"import sys; sys.argv = ['setup.py', '--name']; {code}")
    assert result.returncode == 0, result.stderr


def test_only_the_library_is_packaged(setup_arguments):
    packages = setup_arguments['packages']
    assert all(name.split('.')[0] == 'mmsigma' for name in packages)


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    """What `pip install` of the wheel puts into an environment, without what it depends on."""
    folder = tmp_path_factory.mktemp('installed')
    listed = run('git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard')
    for name in filter(None, listed.stdout.split('\0')):
        if (ROOT / name).is_file():
            (folder / 'source' / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / 'source' / name)
    pip = [sys.executable, '-m', 'pip', '--disable-pip-version-check', '-q']
    pip += ['install', '--no-deps', '--no-build-isolation', '--no-index']
    result = run(*pip, '--target', folder / 'site', folder / 'source')
    assert result.returncode == 0, result.stderr
    return folder / 'site'


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / '.git').exists(), reason='not a git checkout')
def test_the_wheel_trains_in_an_empty_folder(installed, tmp_path):
    """By the name of a config, with the strategies and parts that configs/ has."""
    place = Workplace(tmp_path / 'place')
    (empty := tmp_path / 'empty').mkdir()
    environment = place.environment(PYTHONPATH=str(installed))
    name = 'sigma_dinov2-s_fcn_camvid-308x224'

    def mmsigma(*words):
        code = 'import sys, mmsigma.__main__ as it; sys.argv[0] = "mmsigma"; it.main()'
        return subprocess.run(
            [sys.executable, '-c', code, *words],
            cwd=empty,
            env=environment,
            capture_output=True,
            text=True,
        )

    options = [
        *(f'model.backbone.trunk.model_args.{key}={value}' for key, value in TINY.items()),
        'model.backbone.tuner.bottleneck=8',
        'model.backbone.out_indices=[0,1,2,3]',
        'model.decode_head.in_channels=[32,32,32,32]',
        'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
        'param_scheduler=[]',
        'train_cfg.max_iters=1',
        'train_cfg.val_interval=9',
    ]
    trained = mmsigma('train', name, '--strategy', 'ddp', '--cfg-options', *options)
    assert trained.returncode == 0, trained.stderr
    assert (empty / f'work_dirs/{name}/iter_1.pth').is_file()
    counted = mmsigma('params', name)
    assert counted.returncode == 0, counted.stderr
    assert mmsigma('trian').stderr.startswith("error: Unknown tool 'trian'. Did you mean 'train'?")
    assert 'Train an mmseg or mmdet config' in mmsigma().stdout


def test_the_command_finds_tools_and_configs(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['mmsigma', 'table', '--help'])
    monkeypatch.setattr(sys, 'path', [*sys.path])
    with pytest.raises(SystemExit) as stopped:
        command.main()
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith('usage: table.py ')
    name = 'sigma_dinov2-s_fcn_camvid-308x224'
    assert command.installed.config(name) == ROOT / f'configs/camvid/{name}.py'
    assert command.installed.config('nothing') is None


def test_models_of_the_index_exist():
    index = yaml.safe_load(read('model-index.yml'))
    for model in index['Models']:
        assert (ROOT / model['Config']).is_file()
        assert model['In Collection'] in {found['Name'] for found in index['Collections']}


def test_extras(setup_arguments):
    extras = setup_arguments['extras_require']
    assert set(extras) == {'openmmlab', 'int8', 'peft', 'demo', 'experiments', 'tests', 'dev'}
    assert set(extras['tests']) <= set(extras['dev'])
    # Other versions of the forks have not been tried, and mmcv is compiled for one of them.
    assert all('==' in requirement for requirement in extras['openmmlab'])


def test_pins_agree():
    build_requirement = re.search(r'^requires = \["(.+)"\]$', read('pyproject.toml'), re.MULTILINE)
    assert f"'{build_requirement[1]}'" in read('tools/setup_env.sh')


def test_licence_is_apache():
    text = read('LICENSE')
    assert re.search(r'Apache License\s+Version 2\.0, January 2004', text)
    assert 'END OF TERMS AND CONDITIONS' in text


# --- Scripts -------------------------------------------------------------------------------


@pytest.mark.parametrize('script', [*SCRIPTS, '.ci/run'])
def test_script_parses(script):
    result = run('bash', '-n', script)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize('script', LAUNCHERS)
def test_launcher_explains_itself(script):
    result = run('bash', script)
    assert result.returncode == 2
    assert result.stderr.startswith(f'usage: bash {script} ')


def test_setup_refuses_an_unknown_level():
    result = run('bash', 'tools/setup_env.sh', 'everything')
    assert result.returncode == 2
    assert result.stderr.startswith('usage: ')


@pytest.mark.parametrize(
    ('script', 'arguments', 'started'),
    [
        ('dist_train.sh', 'c.py 2 --amp', 'tools/train.py c.py --launcher pytorch --amp'),
        ('dist_test.sh', 'c.py w.pth 2 --tta', 'tools/test.py c.py w.pth --launcher pytorch --tta'),
    ],
)
def test_dist_launcher_command(script, arguments, started):
    # With echo in Python's place the launcher prints what it would start.
    result = run(
        'bash', f'tools/{script}', *arguments.split(), PYTHON='echo', NNODES='3', PORT='1234'
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith('tools/dist_run.py --nnodes=3 --node_rank=0 ')
    assert '--master_port=1234 --nproc_per_node=2 ' in result.stdout
    assert result.stdout.strip().endswith(started)


@pytest.mark.parametrize(
    ('script', 'arguments', 'started'),
    [
        ('slurm_train.sh', 'gpu job c.py --amp', 'tools/train.py c.py --launcher slurm --amp'),
        ('slurm_test.sh', 'gpu job c.py w.pth', 'tools/test.py c.py w.pth --launcher slurm'),
    ],
)
def test_slurm_launcher_command(script, arguments, started, tmp_path):
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\necho "$MASTER_PORT: $@"\n')
    srun.chmod(0o755)
    result = run(
        'bash',
        f'tools/{script}',
        *arguments.split(),
        PATH=f'{tmp_path}{os.pathsep}{os.environ["PATH"]}',
        PYTHON='python',
        GPUS='16',
        SRUN_ARGS='--quotatype=auto --exclusive',
        PORT='1234',
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith('1234: --partition=gpu --job-name=job --gres=gpu:8 --ntasks=16')
    assert '--ntasks-per-node=8 ' in result.stdout
    assert ' --quotatype=auto --exclusive python -u ' in result.stdout
    assert result.stdout.strip().endswith(started)


def test_ci_runs_the_tests_and_nothing_else():
    assert os.access(ROOT / '.ci' / 'run', os.X_OK)
    lines = [line for line in read('.ci/run').splitlines() if line and not line.startswith('#')]
    assert lines == ['cd "$(dirname "${BASH_SOURCE[0]}")/.." && make test && make test-slow']


# --- Repository ----------------------------------------------------------------------------


@pytest.mark.skipif(not (ROOT / '.git').exists(), reason='not a git checkout')
@pytest.mark.skipif(shutil.which('git') is None, reason='git is not installed')
def test_no_machine_paths():
    """No file names a folder of the machine that it was written on."""
    folders = '|'.join(['work', 'root', 'tmp', r'home/\w+'])
    absolute = re.compile(rf'(?<![\w.~$}})\]/-])/(?:{folders})\b')
    listed = run('git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard')
    assert listed.returncode == 0, listed.stderr
    found = []
    for name in filter(None, listed.stdout.split('\0')):
        path = ROOT / name
        if not path.is_file():
            continue
        lines = path.read_text(encoding='utf-8', errors='ignore').splitlines()
        found += [f'{name}:{i}: {line}' for i, line in enumerate(lines, 1) if absolute.search(line)]
    assert not found, '\n'.join(found)
