"""Packaging of mmsigma. Tool settings live in pyproject.toml."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
# What OpenMMLab's packages carry inside of them, for `mim` and for commands from any folder.
CARRIED = ('configs', 'tools', 'model-index.yml')


class BuildWithTools(build_py):
    """Puts configs and tools into the package; an editable install finds those of the checkout."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for name in CARRIED:
            target = Path(self.build_lib) / 'mmsigma/.mim' / name
            if (ROOT / name).is_dir():
                shutil.copytree(
                    ROOT / name,
                    target,
                    ignore=shutil.ignore_patterns('__pycache__'),
                    dirs_exist_ok=True,
                )
            else:
                shutil.copy(ROOT / name, target)


def read_version() -> str:
    """Read the version as text: importing mmsigma here would need torch."""
    text = (ROOT / 'mmsigma' / 'version.py').read_text(encoding='utf-8')
    match = re.search(r"^__version__ = '([^']+)'", text, re.MULTILINE)
    if match is None:
        raise RuntimeError("mmsigma/version.py must hold a line __version__ = 'X.Y.Z'")
    return match[1]


# The OneDL forks keep OpenMMLab's import names and work with numpy 2 and current torch.
OPENMMLAB = [
    'onedl-mmengine==0.10.12',
    'onedl-mmcv==2.3.6',
    'onedl-mmsegmentation==1.4.2',
    'onedl-mmdetection==3.5.1',
    'onedl-mmpretrain==1.3.6',
]
DEMO = [
    'matplotlib>=3.8,<4',
    'nilearn>=0.11,<0.15',
    'onnx>=1.17,<2',
]
# Grids of runs: tables and plots of their records.
EXPERIMENTS = [
    'adjustText>=1.4,<2',
    'jinja2>=3.1,<4',
    'matplotlib>=3.8,<4',
    'pandas>=2.2,<4',
    'rich>=13,<16',
    'scipy>=1.13,<2',
    'tabulate>=0.9,<0.11',
]
PEFT = ['peft>=0.17,<0.20']
# Each version is made for one of torch; this one for 2.11.
INT8 = ['torchao>=0.17,<0.18']
TESTS = [
    *EXPERIMENTS,
    *INT8,
    *PEFT,
    'onnx>=1.17,<2',
    'onnxruntime>=1.20,<2',
    'pytest>=8,<10',
    'pytest-xdist[psutil]>=3.6,<4',
    # Beside version 5, mmpretrain cannot be imported.
    'transformers>=4.56,<5',
]
DEV = [
    'codespell>=2.3,<3',
    'import-linter>=2.17,<3',
    'mypy>=1.13,<3',
    'pre-commit>=4,<5',
    # Formatting changes between minor versions.
    'ruff>=0.17,<0.18',
    *TESTS,
]

README = ROOT / 'README.md'

setup(
    name='mmsigma',
    version=read_version(),
    description='Adapt frozen vision foundation models with SIGMA in OpenMMLab',
    long_description=README.read_text(encoding='utf-8') if README.exists() else '',
    long_description_content_type='text/markdown',
    author='The mmsigma contributors',
    license='Apache-2.0',
    license_files=['LICENSE'],
    keywords=[
        'computer vision',
        'parameter-efficient fine-tuning',
        'vision foundation model',
        'semantic segmentation',
        'object detection',
    ],
    classifiers=[
        'Development Status :: 3 - Alpha',
        'Intended Audience :: Developers',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3 :: Only',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Topic :: Scientific/Engineering :: Image Recognition',
    ],
    packages=find_packages(str(ROOT), include=['mmsigma', 'mmsigma.*']),
    cmdclass={'build_py': BuildWithTools},
    entry_points={'console_scripts': ['mmsigma = mmsigma.__main__:main']},
    python_requires='>=3.10',
    install_requires=['numpy', 'packaging', 'safetensors', 'timm>=1.0', 'torch>=2.4'],
    extras_require={
        'openmmlab': OPENMMLAB,
        'int8': INT8,
        'peft': PEFT,
        'demo': DEMO,
        'experiments': EXPERIMENTS,
        'tests': TESTS,
        'dev': DEV,
    },
    zip_safe=False,
)
