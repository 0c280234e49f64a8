"""Puts one fault after the other into a copy of the library, and sees which test finds it.

See README.md beside this file. The frameworks are imported once; every fault then gets a forked
process and a folder of its own, so the checkout is never changed.
"""

import argparse
import gc
import importlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.faults.job import Job
from tests.faults.table import ROOT, Fault, faults

# What tests import for seconds; nothing that imports the library.
FRAMEWORKS = (
    'torch', 'torch._dynamo', 'timm', 'mmengine.runner', 'mmcv', 'mmseg.apis', 'mmdet.apis',
    'mmpretrain.models', 'peft', 'transformers', 'cv2', 'scipy.interpolate', 'yapf',
)  # fmt: skip


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog='python -m tests.faults.run', description=__doc__)
    parser.add_argument('--only', nargs='+', metavar='NAME', help='these faults alone')
    parser.add_argument('--tests', type=Path, default=ROOT / 'tests', help='of another checkout')
    parser.add_argument('--marker', metavar='EXPRESSION', help="as pytest -m: 'not slow'")
    parser.add_argument('--whole', action='store_true', help='go on with all tests if need be')
    parser.add_argument('--jobs', type=int, default=1, metavar='N', help='faults at once')
    parser.add_argument('--seconds', type=int, default=300, help='limit of each run of pytest')
    parser.add_argument('--output', type=Path, metavar='FILE', help='JSON file to put results into')
    args = parser.parse_args()
    args.tests = args.tests.resolve()
    unknown = set(args.only or ()) - {fault.name for fault in faults()}
    if unknown:
        parser.error(f'there is no fault {", ".join(sorted(unknown))}; see faults.yaml')
    return args


def preload() -> None:
    """Import the frameworks, for all forks."""
    for name in FRAMEWORKS:
        try:
            importlib.import_module(name)
        except ImportError as error:
            print(f'{name} is not there: {error}', file=sys.stderr)
    gc.freeze()


def resolved(hint: str, tests: Path) -> list[str]:
    """What of a folder of tests a hint names; the whole file where it has no such function."""
    pattern, _, function = hint.partition('::')
    here = [path for path in sorted(tests.glob(pattern)) if path.name != '__pycache__']
    return [
        f'{path}::{function}' if function and f'def {function}(' in path.read_text() else str(path)
        for path in here
    ]


def begin(fault: Fault, folder: Path, args: argparse.Namespace) -> Job:
    """Run the tests that a fault names, and then perhaps all."""
    job = Job(fault, folder, args.tests, args.seconds)
    tests = job.tree / 'tests'
    named = [test for hint in fault.tests for test in resolved(hint, tests)]
    options = ['-x', *(['-m', args.marker] if args.marker else [])]
    stages = [[*options, *named]] if named else []
    job.start(*stages, *([[*options, str(tests)]] if args.whole else []))
    return job


def hunt(chosen: list[Fault], folder: Path, args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What found each fault, and how long that took; printed as a table meanwhile."""
    print('| fault | found by | seconds |\n|---|---|--:|', flush=True)
    waiting, running = list(chosen), {}
    found: dict[str, dict[str, Any]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < args.jobs:
                fault = waiting.pop(0)
                running[fault.name] = begin(fault, folder, args)
            for name in [name for name, job in running.items() if job.ended()]:
                job = running.pop(name)
                found[name] = {'found': job.found, 'seconds': job.seconds}
                if job.note:
                    found[name]['note'] = job.note
                print(f'| {name} | {job.found or job.note or "-"} | {job.seconds} |', flush=True)
                shutil.rmtree(job.tree, ignore_errors=True)
                save(found, args.output)
            time.sleep(0.05)
    finally:
        for job in running.values():
            job.stop()
    return found


def save(found: Mapping[str, Any], output: Path | None) -> None:
    """Put results into a file, beside what it has of other faults."""
    if output is not None:
        known = {**(json.loads(output.read_text()) if output.exists() else {}), **found}
        ordered = {fault.name: known[fault.name] for fault in faults() if fault.name in known}
        output.write_text(json.dumps(ordered, indent=1) + '\n', encoding='utf-8')


def check_without(found: dict[str, dict[str, Any]], folder: Path, tests: Path) -> None:
    """Run what found faults in a copy without any: what fails there, too, has found nothing."""
    named = list(dict.fromkeys(entry['found'] for entry in found.values() if entry['found']))
    if not named:
        return
    job = Job(None, folder, tests, 3600)
    try:
        job.start(named)
        while not job.ended():
            time.sleep(0.2)
    finally:
        job.stop()
    if job.note:
        print(f'Whether these tests pass without faults is not known: {job.note}')
    for entry in found.values():
        if entry['found'] in job.failed:
            entry['note'] = f'{entry["found"]} fails without the fault, too'
            entry['found'] = None


def main() -> None:
    """Run what the command line says."""
    args = arguments()
    chosen = [fault for fault in faults() if not args.only or fault.name in args.only]
    since = time.monotonic()
    preload()
    folder = Path(tempfile.mkdtemp(prefix='faults-')).resolve()
    if (ROOT.parent / 'shared').exists():  # tests read ../shared
        (folder / 'shared').symlink_to(ROOT.parent / 'shared')
    try:
        found = hunt(chosen, folder, args)
        check_without(found, folder, args.tests)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    missed = {name: entry for name, entry in found.items() if not entry['found']}
    minutes = (time.monotonic() - since) / 60
    print(f'\n{len(found) - len(missed)} of {len(found)} found, in {minutes:.1f} minutes.')
    for name, entry in missed.items():
        print(f'not found: {name}: {entry.get("note", "all tests pass")}')
    save(found, args.output)


if __name__ == '__main__':
    main()
