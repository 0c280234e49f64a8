"""Checkpoints that a killed process cannot leave half-written, or missing."""

import os
import sys
import zipfile
from pathlib import Path
from typing import Any, cast

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook

from mmsigma.checkpoint.atomic_write import write
from mmsigma.registry import HOOKS

BACKEND = 'mmsigma_atomic'


@register_backend(BACKEND)
class AtomicLocalBackend(LocalBackend):
    """MMEngine's local storage with an atomic ``put``."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write ``obj`` to ``filepath`` atomically."""
        write(filepath, obj)


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook`` in an order that never loses the last good file.

    Upstream deletes the oldest checkpoint (or the previous best) before the new one is written,
    and writes in place. Here the new file is complete first, then ``last_checkpoint`` points to it,
    and only then the old one goes.

    Args:
        **kwargs: See ``mmengine.hooks.CheckpointHook``; ``backend_args`` for storage that is not
            local replaces the atomic writing by that backend's own.
    """

    best_ckpt_path: str | None

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault('backend_args', {'backend': BACKEND})
        super().__init__(**kwargs)

    def before_train(self, runner: Any) -> None:
        """Also clear away what an earlier process was writing when it was killed."""
        super().before_train(runner)
        self._relocate_best(runner)
        if is_main_process() and os.path.isdir(self.out_dir):
            for pattern in ('.*.pth.*', '.last_checkpoint.*'):
                for partial in Path(self.out_dir).glob(pattern):
                    partial.unlink(missing_ok=True)

    def save_step(self, runner: Any, step: int) -> None:
        """Save now, ``step`` iterations being done, unless that is what was saved last."""
        name = self.filename_tmpl.format(step)
        if self.last_ckpt is None or os.path.basename(str(self.last_ckpt)) != name:
            self._save_checkpoint_with_step(runner, step, dict(epoch=runner.epoch, iter=step))

    def _relocate_best(self, runner: Any) -> None:
        """Look for the best checkpoint in this folder: the run may have been moved, or copied."""
        for key in [k for k in runner.message_hub.runtime_info if k.startswith('best_ckpt')]:
            name = os.path.basename(str(runner.message_hub.get_info(key)))
            path = self.file_backend.join_path(self.out_dir, name)
            runner.message_hub.update_info(key, path)
            if key == 'best_ckpt':
                self.best_ckpt_path = path
            else:
                self.best_ckpt_path_dict[key.removeprefix('best_ckpt_')] = path

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict) -> None:
        limit = self.max_keep_ckpts
        kept = getattr(self, 'keep_ckpt_ids', None)
        outdated = []
        if limit > 0 and kept is not None and not (kept and kept[-1] == step):
            outdated = [kept.popleft() for _ in range(len(kept) - limit + 1)]
        # Below its limit, upstream deletes nothing.
        super()._save_checkpoint_with_step(runner, step, meta)
        if is_main_process():
            write(os.path.join(runner.work_dir, 'last_checkpoint'), str(self.last_ckpt).encode())
            for old in outdated:
                self._remove(
                    self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(old))
                )

    def _save_best_checkpoint(self, runner: Any, metrics: dict) -> None:
        several = getattr(self, 'best_ckpt_path_dict', None)
        if not self.save_best or several is not None:
            super()._save_best_checkpoint(runner, metrics)
            return
        previous: str | None = self.best_ckpt_path
        self.best_ckpt_path = cast('str | None', None)  # so that upstream deletes nothing
        super()._save_best_checkpoint(runner, metrics)
        if self.best_ckpt_path is None:
            self.best_ckpt_path = previous
        elif previous and previous != self.best_ckpt_path and is_main_process():
            self._remove(previous)

    def _remove(self, path: str) -> None:
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):  # DeepSpeed's checkpoints are folders
            self.file_backend.rmtree(path)


def latest(work_dir: str | Path) -> Path | None:
    """The newest whole checkpoint of a run, to resume from, or None.

    ``last_checkpoint`` names it. Of a work directory that was moved or copied, its own file of that
    name counts; where there is none, or it is damaged, the newest whole ``iter_*`` or ``epoch_*``.
    """
    folder = Path(work_dir)
    pointer = folder / 'last_checkpoint'
    named = Path(pointer.read_text().strip()) if pointer.is_file() else Path()
    there = [path for path in (folder / named.name, named) if named.name and path.exists()]
    numbered = [p for kind in ('iter', 'epoch') for p in folder.glob(f'{kind}_*.pth')]
    numbered.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in dict.fromkeys([*there[:1], *numbered]):
        if _is_whole(path):
            return path
        size = f'{path.stat().st_size:,} bytes'
        print(f'{path} ({size}) is damaged; an older one takes its place.', file=sys.stderr)
    return None


def _is_whole(path: Path) -> bool:
    """Whether a file has all that was written, by its checksums; a folder is taken for whole."""
    if path.is_dir():
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, EOFError, OSError):
        return False
